"""One tile's GeoTIFFs, uploaded: checked for bands, CRS, grid and ground, and put on the model's grids."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.errors import InputError
from fusmae.inference.scene import require_real
from fusmae.modalities import ModalityInput
from fusmae.sources.raster import Raster, check_same_ground

_MAX_SHIFT_M = 1.0
_MAX_BANDS = 64
_MAX_BLOCK_MB = 64
"""GDAL unpacks whole blocks, and a small file may state a huge one."""

_DESCRIBE = "name bands by their description, rio edit-info FILE --bidx 1 --description VV, or send files like …_VV.tif"


@dataclass(frozen=True)
class Upload:
    """A file as a client sent it.

    Attributes:
        name: what the client calls it, for errors.
        content: its bytes.
    """

    name: str
    content: bytes


def read_tile(files: Mapping[str, Sequence[Upload]], inputs: Sequence[ModalityInput]) -> dict[str, NDArray[Any]]:
    """Arrays `[1, C, h, w]` of one tile from its files.

    A modality may come in several files. Bands are found by their description, one that is alone in its file by the
    end of the file's name: `…_B02.tif`. A file on a finer grid than the model's is averaged to it.

    Args:
        files: a modality's files, by its key.
        inputs: what the model takes.

    Raises:
        InputError: no GeoTIFF, complex pixels, no or another CRS, another grid or extent than a tile's, a missing or
            unnamed band.
        PairError: files of different ground.
    """
    rasters: dict[str, Raster] = {}
    arrays: dict[str, NDArray[Any]] = {}
    for modality, uploads in files.items():
        wanted = [item for item in inputs if item.modality == modality]
        found = [_read_file(upload, wanted) for upload in uploads]
        rasters |= {f"file {number} of {modality}": raster for number, raster in enumerate(found, 1)}
        bands = _bands(modality, found, wanted)
        arrays |= {i.name: np.stack([_on_grid(bands[b], b, i) for b in i.bands])[None] for i in wanted}
    if not rasters:
        raise InputError(
            "The form has no file.", expected=f"files in fields named {sorted({item.modality for item in inputs})}"
        )
    check_same_ground("in the request", rasters)
    return arrays


def _read_file(upload: Upload, wanted: Sequence[ModalityInput]) -> Raster:
    import rasterio
    from rasterio.errors import RasterioError
    from rasterio.io import MemoryFile

    try:
        # Of GDAL's drivers this one only: others follow what a file names, to other files or servers.
        with (
            rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"),
            MemoryFile(upload.content) as memory,
            rasterio.open(memory.name, driver="GTiff", sharing=False) as dataset,
        ):
            _check_grid(upload.name, dataset, wanted)
            names = tuple((name or "").strip() for name in dataset.descriptions)
            if names == ("",):  # as archives keep a band a file
                names = (Path(upload.name).stem.rpartition("_")[2],)
            pixels: NDArray[np.float32] = dataset.read(out_dtype="float32")
            # 0 in digital numbers is what training saw there, too. By value: a mask has blocks of its own, of any size.
            if dataset.nodata is not None and not (wanted[0].units == "DN" and dataset.nodata == 0):
                pixels[pixels == np.float32(dataset.nodata)] = np.nan
            return Raster(Path(upload.name), pixels, names, dataset.crs, tuple(dataset.bounds))
    except RasterioError as error:
        raise InputError(
            f"{upload.name} is no GeoTIFF that can be read: {error.__cause__ or error}", expected="a GeoTIFF"
        ) from error


def _check_grid(name: str, dataset: Any, wanted: Sequence[ModalityInput]) -> None:
    """Refuse complex pixels, another CRS, grid or extent than a tile's, before a pixel is unpacked."""
    require_real(name, dataset)
    tile_m, finest = wanted[0].side_px * wanted[0].gsd_m, max(item.side_px for item in wanted)
    if dataset.crs is None or not dataset.crs.is_projected or dataset.crs.linear_units_factor[1] != 1.0:
        raise InputError(
            f"{name} has no projected CRS in metres.",
            got=f"CRS {dataset.crs}",
            expected="the UTM zone that its product came in",
            hint="rio warp --dst-crs EPSG:326ZZ",
        )
    left, bottom, right, top = dataset.bounds
    sides = (right - left, top - bottom)
    is_turned = bool(dataset.transform.b or dataset.transform.d) or dataset.transform.e > 0
    if is_turned or any(abs(side - tile_m) > _MAX_SHIFT_M for side in sides):
        raise InputError(
            f"{name} is not one tile.",
            got=f"{sides[0]:g} × {sides[1]:g} m, {dataset.width} × {dataset.height} px"
            + (", turned or bottom up" if is_turned else ""),
            expected=f"{tile_m} × {tile_m} m, north up",
            hint="cut it first",
        )
    block_mb = _block_mb(dataset)
    if max(dataset.width, dataset.height) > finest or dataset.count > _MAX_BANDS or block_mb > _MAX_BLOCK_MB:
        raise InputError(
            f"{name} is larger than a tile.",
            got=f"{dataset.count} bands of {dataset.width} × {dataset.height} px in blocks of up to {block_mb:.1f} MB",
            expected=f"at most {finest} × {finest} px, {_MAX_BANDS} bands and blocks of {_MAX_BLOCK_MB} MB",
        )


def _block_mb(dataset: Any) -> float:
    """MB that the largest block takes once it is unpacked; where pixels are interleaved it holds every band."""
    from rasterio.enums import Interleaving

    bands = zip(dataset.block_shapes, dataset.dtypes, strict=True)
    sizes = [height * width * np.dtype(kind).itemsize for (height, width), kind in bands]
    return float(sum(sizes) if dataset.interleaving is Interleaving.pixel else max(sizes)) / 1e6


def _bands(modality: str, rasters: Sequence[Raster], wanted: Sequence[ModalityInput]) -> dict[str, NDArray[Any]]:
    names = [name for raster in rasters for name in raster.names]
    missing = [band for item in wanted for band in item.bands if band not in names]
    twice = sorted({name for name in names if names.count(name) > 1 and name})
    if missing or twice:
        raise InputError(
            f"{modality} has a band twice: {', '.join(twice)}." if twice else f"{modality} lacks {', '.join(missing)}.",
            got=f"{len(names)} bands: {', '.join(name or '(unnamed)' for name in names)}",
            expected=", ".join(band for item in wanted for band in item.bands),
            hint=_DESCRIBE,
        )
    return {name: band for raster in rasters for name, band in zip(raster.names, raster.pixels, strict=True)}


def _on_grid(band: NDArray[Any], name: str, item: ModalityInput) -> NDArray[Any]:
    """The band's mean over each pixel of the model's grid."""
    height, width = band.shape
    if height % item.side_px or width % item.side_px:
        raise InputError(
            f"Band {name} is on another grid.",
            got=f"{width} × {height} px",
            expected=f"{item.side_px} × {item.side_px} px ({item.gsd_m} m), or a multiple",
            hint=f"resample it to {item.gsd_m} m",
        )
    blocks = band.reshape(item.side_px, height // item.side_px, item.side_px, width // item.side_px)
    return np.asarray(blocks.mean((1, 3)))
