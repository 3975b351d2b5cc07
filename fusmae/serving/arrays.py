"""Reads a request's arrays from `.npz` or JSON, whose bytes are not trusted, and checks their units."""

import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from math import prod
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from fusmae.errors import InputError
from fusmae.inference.scene.tiles import MAX_EMPTY_SHARE
from fusmae.modalities import ModalityInput
from fusmae.rasters.raster_file import Flags
from fusmae.rasters.s1_units import CROSSED_DB
from fusmae.rasters.s2_offset import FLOOR_QUANTILE, OFFSET, judge_floors
from fusmae.rasters.unit_check import NODATA_HINT, Mistake, find_mistake, find_strange
from fusmae.units import Unit

Arrays = dict[str, NDArray[Any]]
_Bands = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Ground:
    """Where a tile lies that came as GeoTIFFs, north up."""

    crs: Any  # CRS of the files, as rasterio has it
    left: float  # left edge of the tile in the CRS's metres
    top: float  # top edge of the tile
    has_data: Flags  # `[h, w]`, true for pixels of 10 m of which some modality that is answered has data


@dataclass(frozen=True)
class Tiles:
    """The tiles of a request."""

    pixels: Arrays  # `[B, C, h, w]` by input name, in physical units
    warnings: tuple[str, ...] = ()  # sentences on what was filled or left out
    ground: Ground | None = None  # where the tile lies; None for arrays


_DAMAGED = (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, RuntimeError, NotImplementedError)
"""Errors that zipfile and numpy raise for bytes that are not `.npz`, are encrypted, or have another compression."""


def read_npz(body: bytes, inputs: Sequence[ModalityInput], max_tiles: int) -> Arrays:
    """Read the arrays of a `.npz`, without unpickling, and without unpacking more than the size of `max_tiles` tiles.

    Raises:
        InputError: the body is no such file, an array is unknown or not numeric, or there are too many tiles.
    """
    try:
        with zipfile.ZipFile(BytesIO(body)) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            _check_names(members, inputs)
            by_name, arrays = {item.name: item for item in inputs}, {}
            for name, info in members.items():
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise InputError(f"Array {name} is packed by another method than deflate.")
                with archive.open(info) as file:
                    _check_header(file, by_name[name], max_tiles)
                with archive.open(info) as file:
                    arrays[name] = npy.read_array(file, allow_pickle=False)
    except _DAMAGED as error:
        raise InputError(
            f"The body is no .npz: {error}", expected="what numpy.savez writes, its arrays named as GET /model says"
        ) from error
    return arrays


def read_json(body: bytes, inputs: Sequence[ModalityInput]) -> Arrays:
    """Read the arrays of `{"inputs": {"s1_10m": [[[[…]]]], …}}`, the form that MLflow's server takes, too.

    Raises:
        InputError: the body is not JSON in UTF-8 or has another form, or an array is unknown, ragged or not numeric.
    """
    form = '{"inputs": {"s1_10m": [[[[…]]]], …}}'
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InputError(f"The body is no JSON: {error}", expected=form) from error
    named = found.get("inputs") if isinstance(found, dict) else None
    if not isinstance(named, dict):
        raise InputError("The JSON has another form.", expected=form)
    _check_names(named, inputs)
    arrays = {}
    for name, value in named.items():
        try:
            arrays[name] = np.asarray(value)
        except ValueError as error:
            raise InputError(f"Array {name} is ragged.", expected="[B, C, h, w]") from error
        _check_numbers(name, arrays[name].dtype, arrays[name].shape)
    return arrays


def _check_names(names: Any, inputs: Sequence[ModalityInput]) -> None:
    known = [item.name for item in inputs]
    if foreign := sorted(set(names) - set(known)):
        raise InputError(
            f"The model takes no array {foreign[0]}.",
            got=sorted(names),
            expected=f"some of {known}",
            hint="leave out the arrays of an absent modality; `presence` follows from that",
        )


def _check_numbers(name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    if dtype.kind not in "iuf":
        raise InputError(f"Array {name} isn't numbers.", got=str(dtype), expected="integers or floats")
    if len(shape) != 4:
        raise InputError(f"Array {name} has a wrong shape.", got=shape, expected="[B, C, h, w]")


def _check_header(file: IO[bytes], item: ModalityInput, max_tiles: int) -> None:
    """Refuse an array that must not be unpacked, by its header."""
    # Format 1.0 bounds a header to 64 KB. In format 2.0 a header may have 4 GB, which numpy reads before it checks the
    # length.
    if npy.read_magic(file) != (1, 0):
        raise InputError(f"Array {item.name} has a header of a newer format.", expected="what numpy.savez writes")
    shape, _, dtype = npy.read_array_header_1_0(file)
    _check_numbers(item.name, dtype, shape)
    if prod(shape) > max_tiles * len(item.bands) * item.side_px**2:
        raise InputError(
            f"Array {item.name} is larger than {max_tiles} tiles.",
            got=shape,
            expected=f"[B, {len(item.bands)}, {item.side_px}, {item.side_px}], B at most {max_tiles}",
            hint="ask in several requests",
        )


def check_units(pixels: Mapping[str, NDArray[Any]], inputs: Sequence[ModalityInput]) -> list[str]:
    """Warnings, with the tile's number, of what is unusual but can't be proven wrong from one tile.

    `pixels` are `[B, C, h, w]`, finite, by input name; absent modalities may be left out.

    Raises:
        InputError: a modality of a tile looks like another unit, has pixels beyond the unit's limits, or too many that
            are not plausible or nodata.
    """
    warnings: list[str] = []
    for modality, unit in {item.modality: item.unit for item in inputs if item.name in pixels}.items():
        arrays = [(item, pixels[item.name]) for item in inputs if item.modality == modality]
        for tile in range(len(arrays[0][1])):
            bands = {name: band for item, array in arrays for name, band in zip(item.bands, array[tile], strict=True)}
            empty = max(float((array[tile] == 0).all(axis=0).mean()) for _, array in arrays)
            warnings += [f"tile {tile}: {text}" for text in _warnings(tile, modality, bands, unit, empty)]
    return warnings


def _warnings(tile: int, modality: str, bands: _Bands, unit: Unit, empty: float) -> Iterator[str]:
    """Refuse one tile's modality, of which a share `empty` is 0 in all bands, or yield what is unusual about it."""
    if unit.zero_is_nodata == "always" and empty > MAX_EMPTY_SHARE:
        raise InputError(
            f"Tile {tile} of {modality} has no data.",
            got=f"{empty:.0%} of its pixels are 0 in all bands",
            expected=f"at most {MAX_EMPTY_SHARE:.0%}: 0 in all bands is no {unit.quantity}",
            hint=NODATA_HINT,
        )
    mistake = find_mistake(bands, unit)
    certain = mistake if mistake and mistake.is_certain else None
    if wrong := certain or find_strange(bands, unit) or _beyond(bands, unit):
        raise InputError(
            f"Tile {tile}, {wrong.said_of(modality)}.", got=wrong.got, expected=wrong.expected, hint=wrong.hint
        )
    name = modality.upper()
    if mistake:
        yield f"{name} {mistake.what}, or is very dark: {mistake.got}"
    if {"VV", "VH"} <= bands.keys() and (above := float(bands["VH"].mean() - bands["VV"].mean())) > CROSSED_DB:
        yield f"VH is {above:.1f} dB above VV: over calm water that may be; otherwise they are swapped"
    if unit.quantity == "reflectance" and judge_floors([_floor(band) for band in bands.values()]) == 1:
        yield (
            f"no {name} band has dark pixels: over cloud, snow or sand that may be; otherwise subtract the {OFFSET} "
            "that processing baselines from 04.00 on add"
        )
    zeros = sum(np.count_nonzero(band == 0) for band in bands.values()) / sum(band.size for band in bands.values())
    if unit.zero_is_nodata == "by default" and zeros > MAX_EMPTY_SHARE:
        yield f"{zeros:.0%} of {name} is 0, which is nodata"


def _beyond(bands: _Bands, unit: Unit) -> Mistake | None:
    low, high = unit.limits
    lowest, highest = min(band.min() for band in bands.values()), max(band.max() for band in bands.values())
    if low <= lowest and highest <= high:
        return None
    return Mistake(
        "", f"has no {unit.noun}", f"{lowest:.4g} to {highest:.4g}", f"{unit.description} from {low:g} to {high:g}"
    )


def _floor(band: NDArray[Any]) -> float:
    data = band[band != 0].astype(np.float32)
    return float(np.quantile(data, FLOOR_QUANTILE)) if data.size else np.nan
