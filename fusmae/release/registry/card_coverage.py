"""Where, when and of what the pairs of a dataset are, split by split."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fusmae.data.index import SPLITS, Pair, Split


@dataclass(frozen=True)
class Coverage:
    """What some pairs cover.

    Attributes:
        num_pairs: how many.
        places: that they lie in.
        countries: as the source states them; none where it doesn't.
        first: earliest acquisition.
        last: latest acquisition.
        months: 1 to 12, those with a pair.
        bounds: west, south, east, north of the tiles' centres in degrees (WGS 84); None where the source can't tell.
        num_snowy: pairs with seasonal snow, as the source states it.
        num_cloudy: pairs with cloud or cloud shadow, likewise.
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
    """What pairs cover; one at least."""
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
