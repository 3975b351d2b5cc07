"""Checks that a tile's pixels can be in the model's units, dB or digital numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.errors import InputError
from fusmae.modalities import ModalityInput
from fusmae.rasters.s1_units import (
    CROSSED_DB,
    MEDIAN_DB_RANGE,
    POSSIBLE_DB,
    conversion_to_decibels,
    is_linear,
    measure_levels,
    weigh,
)
from fusmae.rasters.s2_offset import FLOOR_QUANTILE, OFFSET, judge_floors

_MAX_REFLECTANCE = 2.0
"""Largest reflectance, above 1 for clouds and snow; the digital numbers of a whole tile are never as small."""

_SATURATED_DN = np.iinfo(np.uint16).max
_MAX_STRANGE_SHARE = 0.001
"""Largest share of pixels with impossible values; a larger share is nodata that is still in the tile."""

_NODATA_HINT = (
    "if it is nodata, fill it or leave the modality out; a GeoTIFF should say so: rio edit-info FILE --nodata VALUE"
)
_MAX_8_BIT = 255.0
_MAX_NODATA_SHARE = 0.1


def check_units(pixels: Mapping[str, NDArray[Any]], inputs: Sequence[ModalityInput]) -> list[str]:
    """Refuse tiles that are in other units; warn of what is unusual but can't be proven wrong from one tile.

    Args:
        pixels: `[B, C, h, w]` finite, by input name; absent modalities may be left out.
        inputs: arrays that the model takes.

    Returns:
        Warnings, each with the number of its tile.

    Raises:
        InputError: S1 is linear, is not backscatter at all, or has nodata; S2 is reflectance, negative, above 16 bits,
            or has too many saturated pixels.
    """
    warnings: list[str] = []
    for item in inputs:
        if item.units == "dB" and item.name in pixels:
            _check_decibels(pixels[item.name], item)
            warnings += _crossed(pixels[item.name], item)
    names = [item.name for item in inputs if item.units == "DN" and item.name in pixels]
    for tile in range(len(pixels[names[0]]) if names else 0):
        bands = [np.asarray(band, np.float32).ravel() for name in names for band in pixels[name][tile]]
        warnings += [f"tile {tile}: {text}" for text in _odd_numbers(bands, tile)]
    return warnings


def _check_decibels(array: NDArray[Any], item: ModalityInput) -> None:
    for tile, tile_bands in enumerate(array):
        bands = dict(zip(item.bands, np.asarray(tile_bands, np.float32), strict=True))
        empty = float((tile_bands == 0).all(axis=0).mean())
        if empty > _MAX_NODATA_SHARE:
            raise InputError(
                f"Tile {tile} of {item.modality} has no data.",
                got=f"{empty:.0%} of its pixels are 0 in all bands",
                expected=f"at most {_MAX_NODATA_SHARE:.0%}: 0 in all bands is no backscatter",
                hint=_NODATA_HINT,
            )
        linear = {name: band for name, band in bands.items() if is_linear(band)}
        if linear:
            evidence = weigh(measure_levels(linear))
            raise InputError(
                f"Tile {tile}, band {next(iter(linear))} looks like linear power or amplitude, not dB.",
                got=f"{_range(next(iter(linear.values())))}; {evidence.described}",
                expected="dB, mostly between -30 and 0",
                hint=conversion_to_decibels(evidence),
            )
        for name, band in bands.items():
            _check_band(tile, name, band)


def _check_band(tile: int, name: str, band: NDArray[np.float32]) -> None:
    low, high = MEDIAN_DB_RANGE
    if not low <= np.median(band) <= high:
        raise InputError(
            f"Tile {tile}, band {name} is no backscatter in dB.",
            got=f"{_range(band)}, median {np.median(band):.4g}",
            expected=f"a median from {low:g} to {high:g} dB",
            hint=_NODATA_HINT,
        )
    strange = float(((band < POSSIBLE_DB[0]) | (band > POSSIBLE_DB[1])).mean())
    if strange > _MAX_STRANGE_SHARE:
        raise InputError(
            f"Tile {tile}, band {name} has pixels that are no measurements.",
            got=f"{_range(band)}; {strange:.1%} of them beyond what is expected",
            expected=f"{POSSIBLE_DB[0]:g} to {POSSIBLE_DB[1]:g} dB, but for {_MAX_STRANGE_SHARE:.1%} of them",
            hint=_NODATA_HINT,
        )


def _range(band: NDArray[np.float32]) -> str:
    return f"{band.min():.4g} to {band.max():.4g}"


def _crossed(array: NDArray[Any], item: ModalityInput) -> list[str]:
    if not {"VV", "VH"} <= set(item.bands):
        return []
    vv, vh = (array[:, item.bands.index(name)].mean((1, 2)) for name in ("VV", "VH"))
    return [
        f"tile {tile}: VH is {above:.1f} dB above VV: over calm water that may be; otherwise they are swapped"
        for tile, above in enumerate(vh - vv)
        if above > CROSSED_DB
    ]


def _odd_numbers(bands: Sequence[NDArray[np.float32]], tile: int) -> list[str]:
    numbers = np.concatenate(bands)
    lowest, highest = float(numbers.min()), float(numbers.max())
    if lowest < 0 or highest > _SATURATED_DN:
        raise InputError(
            f"Tile {tile} has no digital numbers.",
            got=f"{lowest:.4g} to {highest:.4g}",
            expected="reflectance times 10,000: from 0 to 65535",
            hint=_NODATA_HINT if lowest < 0 else "",
        )
    if (share := float((numbers == _SATURATED_DN).mean())) > _MAX_STRANGE_SHARE:
        raise InputError(
            f"Tile {tile} has pixels that are no measurements.",
            got=f"{share:.1%} of S2 is {_SATURATED_DN}",
            expected=f"{_SATURATED_DN}, where the sensor is blinded, in {_MAX_STRANGE_SHARE:.1%} of the pixels at most",
            hint=_NODATA_HINT,
        )
    if highest <= _MAX_REFLECTANCE:
        raise InputError(
            f"Tile {tile} looks like reflectance, not digital numbers, or is empty.",
            got=f"{lowest:.4g} to {highest:.4g} over all bands",
            expected="reflectance times 10,000",
            hint="multiply by 10,000",
        )
    found = []
    if highest <= _MAX_8_BIT:
        found.append(f"S2 is at most {highest:g}: it may be an 8-bit picture, not digital numbers")
    floors = [np.quantile(band[band != 0], FLOOR_QUANTILE) if band.any() else np.nan for band in bands]
    if judge_floors(floors) == 1:
        found.append(
            f"no S2 band has dark pixels: over cloud, snow or sand that may be; otherwise subtract the {OFFSET} that "
            "processing baselines from 04.00 on add"
        )
    if (share := float((numbers == 0).mean())) > _MAX_NODATA_SHARE:
        found.append(f"{share:.0%} of S2 is 0, which is nodata")
    return found
