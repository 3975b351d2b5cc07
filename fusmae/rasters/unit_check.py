"""Whether pixels are in their unit: the one judgement by which shards, examination, maps and the service go."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.rasters.s1_units import conversion_to_decibels, weigh
from fusmae.units import MAX_STRANGE_SHARE, Unit

EMPTY = "no data"
OTHER_LEVEL = "another level"
"""What `judge` returns besides the names of lookalikes."""

NODATA_HINT = (
    "if it is nodata, fill it or leave the modality out; a GeoTIFF should say so: rio edit-info FILE --nodata VALUE"
)


@dataclass(frozen=True)
class Mistake:
    """What is wrong with the pixels of a tile or a larger sample, as the parts of an error."""

    band: str  # name of the first band where it is wrong; "" if all bands together are
    what: str  # rest of a sentence about it, such as `looks like linear power or amplitude, not dB`
    got: str
    expected: str
    hint: str = NODATA_HINT
    is_empty: bool = False  # whether there are no data
    is_certain: bool = True  # whether one tile proves it

    def said_of(self, modality: str) -> str:
        """The sentence without its full stop, about a band or else the modality."""
        return f"{f'band {self.band}' if self.band else modality} {self.what}"


def judge(bands: Iterable[NDArray[Any]], unit: Unit) -> str:
    """Say what a tile, or a larger sample, looks like instead of a unit, by finite pixels of each band, in any shape.

    Pixels that are 0 where that may be nodata, or clipped, say nothing about the unit.

    Returns:
        The name of a lookalike, `OTHER_LEVEL`, `EMPTY`, or "" where this is the unit.
    """
    bands = list(bands)
    lowest, highest = (np.array([end(band) for band in bands]) for end in (np.min, np.max))
    ends = list(zip(bands, lowest, highest, strict=True))
    telling = np.array([_count_telling(*these, unit) for these in ends])
    negative = np.array([np.count_nonzero(band < 0) if low < 0 else 0 for band, low, _ in ends])
    have = np.any if unit.is_judged_by_band else np.all
    if have(telling == 0):
        return EMPTY
    for other in unit.lookalikes:
        if have((negative <= other.max_negative_share * telling) & (highest <= other.highest)):
            return other.name
    return "" if all(_median_is_within(unit.medians, *these) for these in ends) else OTHER_LEVEL


def find_mistake(bands: Mapping[str, NDArray[Any]], unit: Unit) -> Mistake | None:
    """Find whether pixels of each band of a modality, as for `judge`, have another unit; None where they don't."""
    kind = judge(bands.values(), unit)
    if not kind:
        return None
    if unit.is_judged_by_band:
        bands = {name: band for name, band in bands.items() if judge([band], unit) == kind}
    name = next(iter(bands)) if unit.is_judged_by_band else ""
    got = f"{min(band.min() for band in bands.values()):.4g} to {max(band.max() for band in bands.values()):.4g}"
    if kind == EMPTY:
        return Mistake(name, "has no data", got, f"{unit.noun} that are not 0 throughout", is_empty=True)
    other = unit.lookalike(kind)
    if other is None:
        medians = ", ".join(f"{name} {np.median(band):.4g}" for name, band in bands.items())
        expected = f"medians from {unit.medians[0]:g} to {unit.medians[1]:g}"
        return Mistake(name, f"is no {unit.quantity} in {unit.noun}", f"{got}, medians {medians}", expected)
    hint = other.advice
    if unit.quantity == "backscatter":
        evidence = weigh(bands)
        got, hint = f"{got}; {evidence.described}", conversion_to_decibels(evidence)
    what = f"looks like {other.name}, not {unit.noun}"
    return Mistake(name, what, got, unit.expected, hint, is_certain=other.is_certain)


def find_strange(bands: Mapping[str, NDArray[Any]], unit: Unit) -> Mistake | None:
    """Find whether more pixels of a modality's bands are not plausible than may be, as nodata that no file states."""
    low, high = unit.plausible
    if not unit.is_judged_by_band:
        bands = {"": np.concatenate([band.ravel() for band in bands.values()])}
    strange = {name: band[(band < low) | (band > high)] for name, band in bands.items()}
    shares = {name: strange[name].size / band.size for name, band in bands.items()}
    name = max(shares, key=lambda name: shares[name])
    share = shares[name]
    if share <= MAX_STRANGE_SHARE:
        return None
    values, counts = np.unique(strange[name], return_counts=True)
    return Mistake(
        name,
        "has pixels that are no measurements",
        f"{share:.2%} of them, most often {float(values[counts.argmax()]):.17g}",
        f"from {low:g} to {high:g} {unit.noun}, but for {MAX_STRANGE_SHARE:.1%} of the pixels",
    )


# Shards judge every pair of a data set: pixels are counted and sorted only where their ends leave the answer open.
def _count_telling(band: NDArray[Any], lowest: float, highest: float, unit: Unit) -> int:
    """Number of a band's pixels that are neither 0, where that may be nodata, nor clipped."""
    silent = (value for value in (unit.nodata, unit.clipped_to) if value is not None and lowest <= value <= highest)
    return band.size - sum(int(np.count_nonzero(band == value)) for value in silent)


def _median_is_within(limits: tuple[float, float], band: NDArray[Any], lowest: float, highest: float) -> bool:
    low, high = limits
    return (low <= lowest and highest <= high) or bool(low <= np.median(band) <= high)
