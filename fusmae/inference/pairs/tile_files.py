"""The rasters of tiles, in the layout of docs/folder.md."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from fusmae.data.pixels import NO_CLASS
from fusmae.inference.scene.grid import Grid, Unit
from fusmae.inference.scene.tiles import Strip, fill_nodata
from fusmae.modalities import MAP_GSD_M, ModalityInput
from fusmae.rasters.raster_file import Flags, Floats, touched
from fusmae.sources.folder.maps import MAPS


def nodata_shares(strip: Strip, inputs: Sequence[ModalityInput]) -> NDArray[np.float64]:
    """The share `[tiles]` of each tile that lacks data, in the modality and resolution that lacks most."""
    found = np.zeros(len(strip.unit.lefts_m))
    for modality in dict.fromkeys(item.modality for item in inputs):
        own = [item for item in inputs if item.modality == modality]
        empty = [strip.empty(item) for item in own]
        if not any(flags.any() for flags in empty):
            continue
        for item in own:  # where one resolution has no data, the pair has none in the others
            flags: Flags = np.logical_or.reduce([touched(other, empty[own.index(item)].shape) for other in empty])
            found = np.maximum(found, flags.reshape(item.side_px, len(found), item.side_px).mean(axis=(0, 2)))
    return found


def write_tile(strip: Strip, grid: Grid, inputs: Sequence[ModalityInput], column: int, folder: Path, key: str) -> None:
    """Write one file per modality and resolution, as the layout names them."""
    left_m, top_m = strip.unit.lefts_m[column], strip.unit.top_m
    for item in inputs:
        finest_m = min(other.gsd_m for other in inputs if other.modality == item.modality)
        ending = "" if item.gsd_m == finest_m else f"_{item.gsd_m}m"
        path = folder / item.modality / f"{key}{ending}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        start = (left_m - strip.unit.left_m) // item.gsd_m
        pixels, nodata = _stored(strip.pixels[item.name][:, :, start : start + item.side_px], item)
        place = rasterio.transform.from_origin(grid.left + left_m, grid.top - top_m, item.gsd_m, item.gsd_m)
        profile = {"count": len(pixels), "height": item.side_px, "width": item.side_px, "dtype": pixels.dtype}
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            crs=grid.crs,
            transform=place,
            nodata=nodata,
            compress="DEFLATE",
            predictor=3 if pixels.dtype.kind == "f" else 2,
            interleave="band",
            photometric="MINISBLACK",
            **profile,
        ) as dataset:
            dataset.write(pixels)
            dataset.descriptions = item.bands


def write_map(maps: NDArray[Any], grid: Grid, unit: Unit, column: int, folder: Path, key: str) -> None:
    """Write one tile of the maps `[h, w]` at 10 m of a unit's tiles side by side, as the layout names it."""
    side_px = len(maps)
    pixels = maps[:, column * side_px : (column + 1) * side_px]
    is_value = pixels.dtype.kind == "f"
    path = folder / MAPS / f"{key}.tif"
    path.parent.mkdir(parents=True, exist_ok=True)
    left, top = grid.left + unit.lefts_m[column], grid.top - unit.top_m
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        crs=grid.crs,
        transform=rasterio.transform.from_origin(left, top, MAP_GSD_M, MAP_GSD_M),
        nodata=np.nan if is_value else NO_CLASS,
        compress="DEFLATE",
        predictor=3 if is_value else 2,
        count=1,
        height=side_px,
        width=side_px,
        dtype=pixels.dtype,
    ) as dataset:
        dataset.write(pixels, 1)


def _stored(pixels: Floats, item: ModalityInput) -> tuple[NDArray[Any], float]:
    """Pixels as a file stores them, and the value of nodata.

    Units with decimals have no nodata in shards: it is filled with each band's mean, as it is for predictions.
    """
    if item.unit.dtype == "float32":
        pixels = pixels.copy()
        fill_nodata(pixels)
        return pixels, np.nan
    top = int(np.iinfo(item.unit.dtype).max)
    numbers = np.clip(np.rint(pixels), 0, top - 1)
    return np.where(np.isnan(pixels), top, numbers).astype(item.unit.dtype), top


def move_tiles(work: Path, out: Path, names: Iterable[str]) -> None:
    """Move the rasters of each modality, and maps, from a work folder to the folder of pairs."""
    for name in names:
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted((work / name).glob("*.tif")):
            path.replace(folder / path.name)
