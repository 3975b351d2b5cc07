"""Scenes of noise for the inference benchmark: noise compresses worst, so reading is as slow as it can be."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.files import written_whole
from fusmae.modalities import ModalityInput

_BLOCK_PX = 512
_CRS = "EPSG:32633"
_LEFT, _TOP = 400_000.0, 5_400_000.0
# S1 has its own grid, so that it must be resampled like a real S1 scene.
_SHIFT_M = 3.7


def make_scene(folder: Path, inputs: Sequence[ModalityInput], side_m: tuple[int, int], *, is_sparse: bool) -> None:
    """Write a scene: one file per input array in `folder/<modality>`; a file's band descriptions name its bands.

    Args:
        folder: folder of the scene, made as a whole or not at all.
        inputs: descriptions of a model's input arrays.
        side_m: height and width in metres.
        is_sparse: whether to fill only a strip across the whole width, a few squares and a diagonal swath edge; the
            rest is nodata, which takes no space on disk.
    """
    with written_whole(folder) as partial:
        for item in inputs:
            (partial / item.modality).mkdir(parents=True, exist_ok=True)
            _write(partial / item.modality / f"{item.name}.tif", item, side_m, is_sparse)


def _write(path: Path, item: ModalityInput, side_m: tuple[int, int], is_sparse: bool) -> None:
    import rasterio
    from rasterio.transform import from_origin

    shift_m = _SHIFT_M if item.units == "dB" else 0.0
    height, width = (side // item.gsd_m for side in side_m)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=len(item.bands),
        dtype="float32" if item.units == "dB" else "uint16",
        crs=_CRS,
        transform=from_origin(_LEFT - shift_m, _TOP + shift_m, item.gsd_m, item.gsd_m),
        height=height,
        width=width,
        nodata=np.nan if item.units == "dB" else 0,
        tiled=True,
        blockxsize=_BLOCK_PX,
        blockysize=_BLOCK_PX,
        interleave="band",
        compress="DEFLATE",
        sparse_ok=True,
        BIGTIFF="IF_SAFER",
    ) as dataset:
        dataset.descriptions = item.bands
        random = np.random.default_rng(len(item.name))
        for window in _blocks(height, width, item.gsd_m, is_sparse):
            dataset.write(_noise(random, item, window), window=window)


def _blocks(height: int, width: int, gsd_m: int, is_sparse: bool) -> Iterator[Any]:
    from rasterio.windows import Window

    for top in range(0, height, _BLOCK_PX):
        for left in range(0, width, _BLOCK_PX):
            y_m, x_m = top * gsd_m, left * gsd_m
            # A strip of 10 km over the whole width, a square every 60 km, and blocks along a diagonal.
            is_kept = y_m < 10_000 or (y_m % 60_000 < 5_120 and x_m % 60_000 < 5_120) or abs(y_m - x_m) < 5_120
            if is_kept or not is_sparse:
                yield Window(left, top, min(_BLOCK_PX, width - left), min(_BLOCK_PX, height - top))


def _noise(random: np.random.Generator, item: ModalityInput, window: Any) -> NDArray[Any]:
    shape = (len(item.bands), window.height, window.width)
    if item.units == "dB":
        return random.standard_normal(shape, np.float32) * 3 - 12 - 7 * np.arange(len(item.bands))[:, None, None]
    return random.integers(200, 1800, shape, np.uint16)
