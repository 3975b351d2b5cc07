"""Whether a tile's pixels can be what the model takes: dB and digital numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.errors import InputError
from fusmae.modalities import ModalityInput

_LINEAR_SHARE = 0.95
"""Power is never negative; of dB only bright buildings are at 0 and above."""

_MEDIAN_DB_RANGE = (-40.0, 5.0)
"""Calm water is some -32 dB in VH, a city about 0 dB in VV."""

_MAX_REFLECTANCE = 2.0
"""Reflectance of clouds and snow may be above 1; digital numbers of a whole tile are never as small."""

_FLOOR_DN = 900.0
"""A floor above this may hold the offset of 1000, less what atmospheric correction may overshoot."""

_CROSSED_DB = 1.0
"""VH is above VV by as much over calm water only, where both are noise."""

_POSSIBLE_DB = (-80.0, 40.0)
"""Noise over calm water and the brightest ship lie within."""

_SATURATED_DN = np.iinfo(np.uint16).max
_MAX_STRANGE_SHARE = 0.001
"""What more pixels than that have is no measurement: nodata that nobody took out."""

_NODATA_HINT = (
    "if it is nodata, fill it or leave the modality out; a GeoTIFF should say so: rio edit-info FILE --nodata VALUE"
)
_MAX_8_BIT = 255.0
_MAX_NODATA_SHARE = 0.1


def check_units(pixels: Mapping[str, NDArray[Any]], inputs: Sequence[ModalityInput]) -> list[str]:
    """Refuse tiles that are in other units; say what looks odd and can't be proven from one tile.

    Args:
        pixels: `[B, C, h, w]` finite, by input name; absent modalities may be left out.
        inputs: what the model takes.

    Returns:
        Warnings, each naming its tile.

    Raises:
        InputError: S1 in linear power, no backscatter at all, nodata, S2 as reflectance, negative or above 16 bits.
    """
    warnings: list[str] = []
    for item in inputs:
        if item.units == "dB" and item.name in pixels:
            _check_decibels(pixels[item.name], item)
            warnings += _crossed(pixels[item.name], item)
    names = [item.name for item in inputs if item.units == "DN" and item.name in pixels]
    for tile in range(len(pixels[names[0]]) if names else 0):
        numbers = np.concatenate([np.asarray(pixels[name][tile], np.float32).ravel() for name in names])
        warnings += [f"tile {tile}: {text}" for text in _odd_numbers(numbers, tile)]
    return warnings


def _check_decibels(array: NDArray[Any], item: ModalityInput) -> None:
    for tile, tile_bands in enumerate(array):
        for name, band in zip(item.bands, tile_bands, strict=True):
            got = f"{band.min():.4g} to {band.max():.4g}"
            low, high = _MEDIAN_DB_RANGE
            if (band >= 0).mean() > _LINEAR_SHARE:
                raise InputError(
                    f"Tile {tile}, band {name} looks like linear power, not dB.",
                    got=got,
                    expected="dB, mostly between -30 and 0",
                    hint="convert with 10 * log10(power)",
                )
            if not low <= np.median(band) <= high:
                raise InputError(
                    f"Tile {tile}, band {name} is no backscatter in dB.",
                    got=f"{got}, median {np.median(band):.4g}",
                    expected=f"a median from {low:g} to {high:g} dB",
                    hint=_NODATA_HINT,
                )
            strange = float(((band < _POSSIBLE_DB[0]) | (band > _POSSIBLE_DB[1])).mean())
            if strange > _MAX_STRANGE_SHARE:
                raise InputError(
                    f"Tile {tile}, band {name} has pixels that are no measurements.",
                    got=f"{got}; {strange:.1%} of them beyond what is expected",
                    expected=f"{_POSSIBLE_DB[0]:g} to {_POSSIBLE_DB[1]:g} dB, but for {_MAX_STRANGE_SHARE:.1%} of them",
                    hint=_NODATA_HINT,
                )


def _crossed(array: NDArray[Any], item: ModalityInput) -> list[str]:
    if not {"VV", "VH"} <= set(item.bands):
        return []
    vv, vh = (array[:, item.bands.index(name)].mean((1, 2)) for name in ("VV", "VH"))
    return [
        f"tile {tile}: VH is {above:.1f} dB above VV: over calm water that may be; otherwise they are swapped"
        for tile, above in enumerate(vh - vv)
        if above > _CROSSED_DB
    ]


def _odd_numbers(numbers: NDArray[np.float32], tile: int) -> list[str]:
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
    if lowest > _FLOOR_DN:
        found.append(
            f"no S2 pixel is below {_FLOOR_DN:g}: under thick cloud that may be; otherwise subtract the 1000 that "
            "processing baselines from 04.00 on add"
        )
    if (share := float((numbers == 0).mean())) > _MAX_NODATA_SHARE:
        found.append(f"{share:.0%} of S2 is 0, which is nodata")
    return found
