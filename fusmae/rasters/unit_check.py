"""Whether pixels are in their unit: the one judgement by which shards, examination, maps and the service go."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.units import Unit

EMPTY = "no data"
OTHER_LEVEL = "another level"
"""What `judge` returns besides the names of lookalikes."""


def judge(bands: Sequence[NDArray[Any]], unit: Unit) -> NDArray[np.str_]:
    """Say what tiles look like instead of a unit.

    Pixels that are 0 where that may be nodata, or clipped, say nothing about the unit.

    Args:
        bands: finite pixels `[..., P]` of each band of a modality, one or more; P may differ between bands.
        unit: unit that they should have.

    Returns:
        For each tile `[...]` the name of a lookalike, `OTHER_LEVEL`, `EMPTY`, or "" where this is the unit.
    """
    highest = np.stack([band.max(axis=-1) for band in bands], axis=-1)
    median = np.stack([_median(band) for band in bands], axis=-1)
    telling = np.stack([_count_telling(band, unit) for band in bands], axis=-1)
    negative = np.stack([np.count_nonzero(band < 0, axis=-1) for band in bands], axis=-1)
    is_silent = telling == 0
    conditions = [is_silent.any(axis=-1) if unit.zero_is_nodata == "always" else is_silent.all(axis=-1)]
    for other in unit.lookalikes:
        fits = (negative <= other.max_negative_share * telling) & (highest <= other.highest)
        conditions.append(fits.any(axis=-1) if other.is_by_band else fits.all(axis=-1))
    low, high = unit.medians
    conditions.append(((median < low) | (median > high)).any(axis=-1))
    return np.select(conditions, [EMPTY, *(other.name for other in unit.lookalikes), OTHER_LEVEL], "")


def is_strange(pixels: NDArray[Any], unit: Unit) -> NDArray[np.bool_]:
    """Flags of pixels that are not plausible in a unit, of any shape."""
    low, high = unit.plausible
    return np.asarray((pixels < low) | (pixels > high))


def _median(band: NDArray[Any]) -> NDArray[Any]:
    middle = band.shape[-1] // 2
    return np.asarray(np.partition(band, middle, axis=-1)[..., middle])


def _count_telling(band: NDArray[Any], unit: Unit) -> NDArray[Any]:
    """Number `[...]` of a band's pixels that are neither 0, where that may be nodata, nor clipped."""
    silent = [0] * (unit.zero_is_nodata != "never") + [unit.clipped_to] * (unit.clipped_to is not None)
    return np.asarray(band.shape[-1] - sum(np.count_nonzero(band == value, axis=-1) for value in silent))
