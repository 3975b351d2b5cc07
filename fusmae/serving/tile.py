"""Reads the uploaded GeoTIFFs of one tile: checks bands, CRS, grid and ground, and resamples to the model's grids."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Interleaving
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

from fusmae.errors import InputError
from fusmae.inference.scene.scene import require_real
from fusmae.inference.scene.tiles import MAX_EMPTY_SHARE, fill_nodata
from fusmae.modalities import MAP_GSD_M, ModalityInput, map_side_px, tile_side_m
from fusmae.rasters.band_names import names_in, needed_bands
from fusmae.rasters.geometry import box_of, is_turned, north_up
from fusmae.rasters.raster_file import Flags, nowhere_but, read_bands, require_possible, statement_of, zero_is_nodata
from fusmae.serving.arrays import Ground, Tiles
from fusmae.sources.shared.raster import Raster, check_same_ground

_MAX_SHIFT_M = 1.0
_MAX_BANDS = 64
_MAX_BLOCK_MB = 64
_MAX_DIRECTORIES = 16
"""Largest number of directories of a file: each may declare a huge block, and GDAL unpacks whole blocks."""


@dataclass(frozen=True)
class Upload:
    """A file's name, as its client gave it, and its bytes."""

    name: str
    content: bytes


def read_tile(
    files: Mapping[str, Sequence[Upload]], inputs: Sequence[ModalityInput], groups: Collection[str] = ()
) -> Tiles:
    """Read one tile's files into finite arrays `[1, C, h, w]`, with warnings, and where the tile lies.

    A modality may come in several files. Bands are found by their description; a band that is alone in its file and has
    none is found by the end of the file's name: `…_B02.tif`. A file on a finer grid than the model's is averaged to it.
    As in a map, a little nodata is filled with the tile's own means, and a modality with more than a tenth of nodata is
    absent. `groups` are names of inputs that a tile may lack, while it has others of the modality.

    Raises:
        InputError: the model lacks a modality; a file is not a GeoTIFF, has complex pixels, no CRS in metres, or
            another grid or extent than a tile's; a band is missing or unnamed; all modalities are nodata; or a scale
            can't be right.
        PairError: the files cover different ground.
    """
    taken = list(dict.fromkeys(item.modality for item in inputs))
    if foreign := sorted(set(files) - set(taken)):
        raise InputError(f"The model has no modality {foreign[0]}.", got=sorted(files), expected=f"some of {taken}")
    rasters: dict[str, Raster] = {}
    arrays: dict[str, NDArray[Any]] = {}
    warnings: list[str] = []
    side_px = map_side_px(inputs)
    has_data = np.zeros((side_px, side_px), np.bool_)
    for modality, uploads in files.items():
        wanted = [item for item in inputs if item.modality == modality]
        files_read = [_read_file(upload, wanted) for upload in uploads]
        found = [raster for raster, _ in files_read]
        if zero_is_nodata([value for _, stated in files_read for value in stated], wanted[0].units):
            _empty_zeros(found, wanted)
        rasters |= {f"file {number} of {modality}": raster for number, raster in enumerate(found, 1)}
        bands = _bands(modality, found, wanted, groups)
        given = [item for item in wanted if set(item.bands) <= bands.keys()]
        warnings += [
            f"{modality} has no {', '.join(item.bands)}: the tile is answered without them"
            for item in wanted
            if item not in given
        ]
        read = {i.name: np.stack([_on_grid(bands[b], b, i) for b in i.bands]) for i in given}
        known = _has_data(read, given, side_px)
        share = _fill(read)
        if share <= MAX_EMPTY_SHARE:
            has_data |= known
            arrays |= {name: array[None] for name, array in read.items()}
        if share:
            warnings.append(
                f"{modality}: {share:.1%} of the pixels have no data: "
                + ("filled with the tile's means" if share <= MAX_EMPTY_SHARE else "the tile is answered without it")
            )
    if not rasters:
        raise InputError("The form has no file.", expected=f"files in fields named {sorted(taken)}")
    check_same_ground("in the request", rasters)
    if not arrays:
        raise InputError(
            "The tile has no data.",
            got="; ".join(warnings),
            expected=f"a modality of which at most {MAX_EMPTY_SHARE:.0%} of the pixels have no data",
            hint="no data are what a file states as nodata, masks or hides by alpha, what is not finite, and 0 in all "
            "bands",
        )
    first = next(iter(rasters.values()))
    left, _, _, top = first.bounds
    return Tiles(arrays, tuple(warnings), Ground(first.crs, left, top, has_data))


def _has_data(arrays: Mapping[str, NDArray[Any]], given: Sequence[ModalityInput], side_px: int) -> Flags:
    """Flags `[side_px, side_px]` of pixels of 10 m at whose centre a modality's finest input has data."""
    finest = min(given, key=lambda item: item.gsd_m)
    at = (2 * np.arange(side_px) + 1) * MAP_GSD_M // (2 * finest.gsd_m)
    return np.asarray(np.isfinite(arrays[finest.name]).all(axis=0)[at[:, None], at])


def _empty_zeros(rasters: Sequence[Raster], wanted: Sequence[ModalityInput]) -> None:
    """Put NaN where all of a modality's bands are 0."""
    bands = {band for item in wanted for band in item.bands}
    used = [raster for raster in rasters if bands & set(raster.names)]
    chosen = [np.nan_to_num(raster.pixels[[name in bands for name in raster.names]]) for raster in used]
    for raster, zero in zip(used, nowhere_but(0, chosen), strict=True):
        raster.pixels[:, zero] = np.nan


def _fill(arrays: Mapping[str, NDArray[np.float32]]) -> float:
    """Fill nodata in a modality's arrays `[C, h, w]` that have some data; returns the largest share of nodata."""
    shares = []
    for array in arrays.values():
        empty = np.isnan(array).any(axis=0)
        shares.append(float(empty.mean()))
        array[:, empty] = np.nan
        if not empty.all():
            fill_nodata(array)
    return max(shares)


def _read_file(upload: Upload, wanted: Sequence[ModalityInput]) -> tuple[Raster, tuple[float | None, ...]]:
    """Read a file's bands in the model's units, NaN where they have no data, and its nodata values by band."""
    try:
        # Only this driver of GDAL is used: others follow references in a file to other files or servers.
        with (
            rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"),
            MemoryFile(upload.content) as memory,
            rasterio.open(memory.name, driver="GTiff", sharing=False) as dataset,
        ):
            _check_grid(upload.name, dataset, wanted)
            statement = statement_of(upload.name, dataset, wanted[0].units)
            names = tuple((dataset.descriptions[index - 1] or "").strip() for index in statement.indexes)
            if names == ("",):  # as in archives that hold one band per file
                names = (Path(upload.name).stem.rpartition("_")[2],)
            names = tuple(_product_name(name, wanted) for name in names)
            if statement.has_mask:
                _check_mask(upload.name, memory.name)
            bands = read_bands(dataset, statement)
            require_possible(upload.name, [bands], wanted[0].units)
            pixels = north_up(bands.in_units(wanted[0].units), dataset.transform)
            return Raster(Path(upload.name), pixels, names, dataset.crs, box_of(dataset)), statement.nodata
    except RasterioError as error:
        raise InputError(
            f"{upload.name} is no GeoTIFF that can be read: {error.__cause__ or error}", expected="a GeoTIFF"
        ) from error


def _check_grid(name: str, dataset: Any, wanted: Sequence[ModalityInput]) -> None:
    """Refuse complex pixels, and another CRS, grid or extent than a tile's, before any pixel is unpacked."""
    require_real(name, dataset)
    tile_m, finest = tile_side_m(wanted), max(item.side_px for item in wanted)
    if dataset.crs is None or not dataset.crs.is_projected or dataset.crs.linear_units_factor[1] != 1.0:
        raise InputError(
            f"{name} has no projected CRS in metres.",
            got=f"CRS {dataset.crs}",
            expected="the UTM zone that its product came in",
            hint="rio warp --dst-crs EPSG:326ZZ",
        )
    left, bottom, right, top = box_of(dataset)
    sides = (right - left, top - bottom)
    if is_turned(dataset.transform) or any(abs(side - tile_m) > _MAX_SHIFT_M for side in sides):
        raise InputError(
            f"{name} is not one tile.",
            got=f"{sides[0]:g} × {sides[1]:g} m, {dataset.width} × {dataset.height} px"
            + (", turned" if is_turned(dataset.transform) else ""),
            expected=f"{tile_m} × {tile_m} m, rows along the CRS's axes",
            hint=f"cut it first: gdalwarp -te LEFT BOTTOM RIGHT TOP -tr {wanted[0].gsd_m} {wanted[0].gsd_m} SCENE TILE",
        )
    block_mb = _block_mb(dataset)
    if max(dataset.width, dataset.height) > finest or dataset.count > _MAX_BANDS or block_mb > _MAX_BLOCK_MB:
        raise InputError(
            f"{name} is larger than a tile.",
            got=f"{dataset.count} bands of {dataset.width} × {dataset.height} px in blocks of up to {block_mb:.1f} MB",
            expected=f"at most {finest} × {finest} px, {_MAX_BANDS} bands and blocks of {_MAX_BLOCK_MB} MB",
        )


def _check_mask(name: str, path: str) -> None:
    """Refuse a mask with huge blocks; it is a separate directory of the file, whose blocks may have any size."""
    for number in range(2, _MAX_DIRECTORIES + 2):
        try:
            with rasterio.open(f"GTIFF_DIR:{number}:{path}", sharing=False) as dataset:
                block_mb = _block_mb(dataset)
        except RasterioError:
            return
        if block_mb > _MAX_BLOCK_MB or number > _MAX_DIRECTORIES:
            raise InputError(
                f"{name} has a mask that is larger than a tile's.",
                got=f"blocks of {block_mb:.1f} MB",
                expected=f"blocks of {_MAX_BLOCK_MB} MB, and at most {_MAX_DIRECTORIES} directories",
            )


def _block_mb(dataset: Any) -> float:
    """Size in MB of the largest unpacked block; if bands are interleaved by pixel, a block holds every band."""
    bands = zip(dataset.block_shapes, dataset.dtypes, strict=True)
    sizes = [height * width * np.dtype(kind).itemsize for (height, width), kind in bands]
    return float(sum(sizes) if dataset.interleaving is Interleaving.pixel else max(sizes)) / 1e6


def _product_name(text: str, wanted: Sequence[ModalityInput]) -> str:
    """The model's name of the band that a text names; the text itself if it names none or several."""
    found = names_in(wanted[0].modality, (text,), [band for item in wanted for band in item.bands])
    return found[0] if len(found) == 1 else text


def _bands(
    modality: str, rasters: Sequence[Raster], wanted: Sequence[ModalityInput], groups: Collection[str]
) -> dict[str, NDArray[Any]]:
    names = [name for raster in rasters for name in raster.names]
    optional = [item.bands for item in wanted if item.name in groups]
    expected = needed_bands((band for item in wanted for band in item.bands), names, optional)
    missing = [band for band in expected if band not in names]
    twice = sorted({name for name in names if names.count(name) > 1 and name})
    if missing or twice:
        raise InputError(
            f"{modality} has a band twice: {', '.join(twice)}." if twice else f"{modality} lacks {', '.join(missing)}.",
            got=f"{len(names)} bands: {', '.join(name or '(unnamed)' for name in names)}",
            expected=", ".join(expected),
            hint="name bands by their description, rio edit-info FILE --bidx 1 --description VV, or send files like "
            "…_VV.tif",
        )
    return dict(zip(names, (band for raster in rasters for band in raster.pixels), strict=True))


def _on_grid(band: NDArray[Any], name: str, item: ModalityInput) -> NDArray[Any]:
    """The band's mean over the pixels with data in each pixel of the model's grid; NaN where none has data."""
    height, width = band.shape
    if height % item.side_px or width % item.side_px:
        raise InputError(
            f"Band {name} is on another grid.",
            got=f"{width} × {height} px",
            expected=f"{item.side_px} × {item.side_px} px ({item.gsd_m} m), or a multiple",
            hint=f"resample it to {item.gsd_m} m",
        )
    blocks = band.reshape(item.side_px, height // item.side_px, item.side_px, width // item.side_px)
    has_data = np.isfinite(blocks)
    if has_data.all():
        return np.asarray(blocks.mean((1, 3)))
    counts = has_data.sum((1, 3))
    sums = np.where(has_data, blocks, 0).sum((1, 3), dtype=np.float64)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).astype(np.float32)
