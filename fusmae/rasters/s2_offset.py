"""Whether Sentinel-2 digital numbers contain the offset of 1000 that processing baselines since 04.00 add.

The same evidence is used for scenes, single tiles and datasets. Dates are no evidence, because archives are
reprocessed. A product's name is (`_N0510_`), unless the archive subtracted the offset. Pixels are evidence by their
dark floors, band by band: without the offset, several bands have nearly black pixels (shadow, water, needles); with it,
no band has. Water with the offset is recognised by its spectrum: where atmospheric correction overshoots, all long
wavelengths lie just below 1000. Sand, snow and cloud have no dark pixels with or without the offset: there the answer
is unknown.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

OFFSET = 1000
"""Offset that is added to every digital number; products state it as BOA_ADD_OFFSET or RADIO_ADD_OFFSET of -1000."""

FLOOR_QUANTILE = 0.01
"""Share of a band's pixels below its dark floor, so that a few bad pixels don't lower the floor."""

# Floor above which a band may contain the offset: `OFFSET` minus what atmospheric correction may overshoot.
_BRIGHT_DN = 900.0
# A floor below this can't result from an overshoot of the correction: no offset was added.
_DARK_DN = 600.0
# One band with a floor below this is enough, such as L1C's cirrus band, which is nearly black everywhere.
_BLACK_DN = 150.0
# Range of floors of water with the offset whose reflectance the correction made negative, and the maximum difference
# between its long wavelengths.
_WATER_DN = (680.0, 1010.0)
_WATER_RANGE_DN = 250.0
# With this many bands or more, the darkest is ignored: the aerosol and water vapour bands overshoot more than others.
_ONE_ASIDE_FROM = 4
# The baseline is read from product names only: elsewhere N and four digits may be a latitude.
_BASELINE = re.compile(r"(?<![A-Za-z0-9])S2[A-D]?_(?:\w*?_)?N(\d{4})(?![A-Za-z0-9])", re.I)
_OFFSET_BASELINE = 400
# Baseline in the names of products that were not made by the agency's processor, such as those of BigEarthNet v2.
_NO_BASELINE = 9999
# Properties of STAC items: whether an archive took the offset off, and the processing baseline.
_APPLIED = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")
_BASELINES = ("s2:processing_baseline", "sentinel:processing_baseline", "processing:version")


class StatedOffset(NamedTuple):
    """The number that a product states was added to all digital numbers, 0 for none; and where, in words for people."""

    offset: int
    source: str


def dark_level(floors: ArrayLike) -> NDArray[np.float32]:
    """Return a tile's dark level: the floor of its darkest band, or with four bands or more of its second darkest band.

    Floors `[…, C]` are `FLOOR_QUANTILE` of each band's pixels, NaN for a band without contrast or data; levels are
    digital numbers `[…]`, NaN where no band has a floor.
    """
    ordered, counts = _ordered(floors)
    found = _taken(ordered, np.where(counts >= _ONE_ASIDE_FROM, 1, 0))
    return np.where(np.isinf(found), np.nan, found).astype(np.float32)


def judge_floors(floors: ArrayLike) -> NDArray[np.int8]:
    """Judge tiles by floors, as for `dark_level`: 1 if offset or bright, -1 if no offset was added, 0 if undecided."""
    level = np.nan_to_num(dark_level(floors), nan=(_DARK_DN + _BRIGHT_DN) / 2)
    is_dark = (level < _DARK_DN) | (_ordered(floors)[0][..., 0] < _BLACK_DN)
    return np.select([is_dark, (level >= _BRIGHT_DN) | is_overshot_water(floors)], [-1, 1], 0).astype(np.int8)


def is_overshot_water(floors: ArrayLike) -> NDArray[np.bool_]:
    """Return whether half of the bands have floors just below 1000 and near one another, and at most one is darker."""
    ordered, counts = _ordered(floors)
    first = np.where(counts >= _ONE_ASIDE_FROM, 1, 0)
    low, high = _taken(ordered, first), _taken(ordered, np.maximum(first, first + counts // 2 - 1))
    with np.errstate(invalid="ignore"):  # the difference of two infinite floors is NaN
        is_flat = high - low <= _WATER_RANGE_DN
    return (counts >= _ONE_ASIDE_FROM) & (low >= _WATER_DN[0]) & (high <= _WATER_DN[1]) & is_flat


def named_baseline(names: Iterable[str]) -> tuple[int, str] | None:
    """Return the processing baseline in the first name that contains one, and that name; 9999 is ignored.

    The baseline of `S2A_MSIL2A_20240607T101031_N0510_R022_T33TWL_20240607T123456` is 510.
    """
    for name in names:
        for match in _BASELINE.finditer(name):
            if int(match[1]) != _NO_BASELINE:
                return int(match[1]), name
    return None


def adds_offset(baseline: int) -> bool:
    """Return whether products of a processing baseline contain the offset when the agency delivers them."""
    return baseline >= _OFFSET_BASELINE


def offset_of_baseline(baseline: int, place: object) -> StatedOffset:
    """Return the offset that a processing baseline stated at a place means."""
    text = f"processing baseline {baseline // 100:02d}.{baseline % 100:02d} in {place}"
    return StatedOffset(OFFSET * adds_offset(baseline), text)


def is_offset_applied(properties: Mapping[str, Any]) -> bool | None:
    """Return whether an archive states in a STAC item that it took the offset off; None where it states neither."""
    return next((properties[key] for key in _APPLIED if isinstance(properties.get(key), bool)), None)


def offset_by_properties(
    properties: Mapping[str, Any], names: Iterable[str] = (), place: object = "the item"
) -> StatedOffset | None:
    """Return the offset that a STAC item's properties state, else the baseline in names of the product."""
    if is_offset_applied(properties):
        return StatedOffset(0, f"{next(key for key in _APPLIED if key in properties)} in {place}")
    for key in _BASELINES:
        if found := re.fullmatch(r"(\d{2})\.(\d{2})", str(properties.get(key))):
            return offset_of_baseline(int(found[1] + found[2]), place)
    named = named_baseline(names)
    return named and offset_of_baseline(named[0], f"the name {named[1]}")


def _ordered(floors: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Return floors in ascending order, with inf at the end for bands without a floor, and the number of floors."""
    floors = np.asarray(floors, np.float32)
    ordered = np.sort(np.where(np.isfinite(floors), floors, np.float32(np.inf)), axis=-1)
    # Two more entries make the first two positions valid for tiles with no band or one band.
    padding = np.full((*floors.shape[:-1], 2), np.inf, np.float32)
    return np.concatenate([ordered, padding], axis=-1), np.isfinite(floors).sum(axis=-1)


def _taken(ordered: NDArray[np.float32], places: NDArray[np.intp]) -> NDArray[np.float32]:
    return np.take_along_axis(ordered, places[..., None], axis=-1)[..., 0]
