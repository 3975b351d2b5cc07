"""Whether Sentinel-2 digital numbers hold the 1000 that processing baselines from 04.00 on add.

One table of evidence for scenes, single tiles and data sets. Dates don't tell: archives are processed anew. A product's
name may (`_N0510_`), unless its archive took the offset off. Pixels tell by their dark floors, band by band: on ground
without the offset several bands have pixels that are nearly black (shadow, water, needles); with it no band has. Water
is told apart by its shape: what atmospheric correction overshoots lies just below 1000 in all long waves alike. Sand,
snow and cloud have no dark pixels with or without the offset: there it is not known.
"""

import re
from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

OFFSET = 1000
"""What is added to every digital number: BOA_ADD_OFFSET and RADIO_ADD_OFFSET are -1000."""

FLOOR_QUANTILE = 0.01
"""Share of a band's pixels below its dark floor: a few bad pixels don't make a floor."""

BRIGHT_DN = 900.0
"""A floor above this may hold the offset, less what atmospheric correction may overshoot."""

Verdict = Literal["offset", "none", "unknown"]

# A floor below this is no overshoot of correction: nothing was added.
_DARK_DN = 600.0
# Nor is one band's, the cirrus band's of L1C above all, which is nearly black everywhere.
_BLACK_DN = 150.0
# Between these lies water with the offset that correction made negative; its long waves are equal to within the last.
_WATER_DN = (680.0, 1010.0)
_WATER_RANGE_DN = 250.0
# One band of four and more may be wrong by itself: aerosol and water vapour overshoot more than the others.
_ONE_ASIDE_FROM = 4
# In products' names only: elsewhere N and four digits may be a latitude.
_BASELINE = re.compile(r"(?<![A-Za-z0-9])S2[A-D]?_(?:\w*?_)?N(\d{4})(?![A-Za-z0-9])", re.I)
_OFFSET_BASELINE = 400
# What the public archives name products that were made elsewhere; BigEarthNet v2 is such a one.
_NO_BASELINE = 9999


def dark_level(floors: ArrayLike) -> NDArray[np.float32]:
    """The floor below which a tile is dark: that of its darkest band, of four bands and more of the second darkest.

    Args:
        floors: `[…, C]`, `FLOOR_QUANTILE` of each band's pixels; NaN for a band without contrast or data.

    Returns:
        `[…]`; NaN where no band has a floor.
    """
    ordered, counts = _ordered(floors)
    place = np.where(counts >= _ONE_ASIDE_FROM, 1, 0)
    found = np.take_along_axis(ordered, place[..., None], axis=-1)[..., 0]
    return np.where(np.isinf(found), np.nan, found).astype(np.float32)


def judge_floors(floors: ArrayLike) -> NDArray[np.int8]:
    """What each tile tells: 1 that it holds the offset or is bright, -1 that nothing was added, 0 nothing.

    Args:
        floors: `[…, C]`, as for `dark_level`.
    """
    level = np.nan_to_num(dark_level(floors), nan=(_DARK_DN + BRIGHT_DN) / 2)
    is_dark = (level < _DARK_DN) | (_ordered(floors)[0][..., 0] < _BLACK_DN)
    return np.select([is_dark, (level >= BRIGHT_DN) | is_overshot_water(floors)], [-1, 1], 0).astype(np.int8)


def is_overshot_water(floors: ArrayLike) -> NDArray[np.bool_]:
    """Whether half of the bands have floors just below 1000 and near one another, and none but one is darker."""
    ordered, counts = _ordered(floors)
    first = np.where(counts >= _ONE_ASIDE_FROM, 1, 0)
    last = np.maximum(first, first + counts // 2 - 1)
    low, high = (np.take_along_axis(ordered, place[..., None], axis=-1)[..., 0] for place in (first, last))
    with np.errstate(invalid="ignore"):  # of infinite ones there is no difference
        is_flat = high - low <= _WATER_RANGE_DN
    return (counts >= _ONE_ASIDE_FROM) & (low >= _WATER_DN[0]) & (high <= _WATER_DN[1]) & is_flat


def named_baseline(names: Iterable[str]) -> tuple[int, str] | None:
    """The processing baseline in the first of some names that holds one, and that name; 9999 says nothing.

    `510` for `S2A_MSIL2A_20240607T101031_N0510_R022_T33TWL_20240607T123456`.
    """
    for name in names:
        for match in _BASELINE.finditer(name):
            if int(match[1]) != _NO_BASELINE:
                return int(match[1]), name
    return None


def adds_offset(baseline: int) -> bool:
    """Whether products of a processing baseline hold the offset, as the agency delivers them."""
    return baseline >= _OFFSET_BASELINE


def _ordered(floors: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Floors from the darkest on, what has none as inf at the end, and the number of those that are there."""
    floors = np.asarray(floors, np.float32)
    counts = np.isfinite(floors).sum(axis=-1)
    padded = np.where(np.isfinite(floors), floors, np.inf)
    # A place to look at where there is no band, or one only.
    padded = np.concatenate([np.sort(padded, axis=-1), np.full((*floors.shape[:-1], 2), np.inf, np.float32)], axis=-1)
    return padded.astype(np.float32), counts
