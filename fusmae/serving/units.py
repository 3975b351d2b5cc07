"""Checks that a request's tiles are in the model's units."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.errors import InputError
from fusmae.inference.scene.tiles import MAX_EMPTY_SHARE
from fusmae.modalities import ModalityInput
from fusmae.rasters.s1_units import CROSSED_DB
from fusmae.rasters.s2_offset import FLOOR_QUANTILE, OFFSET, judge_floors
from fusmae.rasters.unit_check import NODATA_HINT, Mistake, find_mistake, find_strange
from fusmae.units import Unit

_Bands = Mapping[str, NDArray[Any]]


def check_units(pixels: Mapping[str, NDArray[Any]], inputs: Sequence[ModalityInput]) -> list[str]:
    """Refuse tiles that are in other units; warn of what is unusual but can't be proven wrong from one tile.

    Args:
        pixels: `[B, C, h, w]` finite, by input name; absent modalities may be left out.
        inputs: arrays that the model takes.

    Returns:
        Warnings, each with the number of its tile.

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
    for wrong in (mistake if mistake and mistake.is_certain else None, find_strange(bands, unit), _beyond(bands, unit)):
        if wrong:
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
