"""What the pairs of a data set cover, split by split: places, countries, dates, snow and clouds."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fusmae.data.index import SPLITS, Pair, Split


@dataclass(frozen=True)
class Coverage:
    """What some pairs cover.

    Attributes:
        num_pairs: number of pairs.
        places: places in which they lie.
        countries: countries as the source states them; empty if it states none.
        first: date of the earliest acquisition.
        last: date of the latest acquisition.
        months: months with a pair, from 1 to 12.
        bounds: west, south, east, north of the tiles' centres in degrees (WGS 84); None if the source does not state
            them for every pair.
        num_snowy: number of pairs with seasonal snow, as the source states it.
        num_cloudy: number of pairs with cloud or cloud shadow, as the source states it.
    """

    num_pairs: int
    places: frozenset[str]
    countries: tuple[str, ...]
    first: datetime
    last: datetime
    months: frozenset[int]
    bounds: tuple[float, float, float, float] | None
    num_snowy: int
    num_cloudy: int


def cover(pairs: Sequence[Pair]) -> Coverage:
    """What some pairs cover; there must be at least one."""
    dates = [pair.date for pair in pairs]
    known = [(pair.lon, pair.lat) for pair in pairs if pair.lon is not None and pair.lat is not None]
    lons, lats = [lon for lon, _ in known], [lat for _, lat in known]
    return Coverage(
        num_pairs=len(pairs),
        places=frozenset(pair.place for pair in pairs),
        countries=tuple(sorted({pair.country for pair in pairs} - {""})),
        first=min(dates),
        last=max(dates),
        months=frozenset(date.month for date in dates),
        bounds=(min(lons), min(lats), max(lons), max(lats)) if len(known) == len(pairs) else None,
        num_snowy=sum(pair.is_snowy for pair in pairs),
        num_cloudy=sum(pair.is_cloudy for pair in pairs),
    )


def cover_by_split(pairs: Sequence[Pair]) -> dict[Split, Coverage]:
    """What each split covers."""
    return {split: cover([pair for pair in pairs if pair.split == split]) for split in SPLITS}
