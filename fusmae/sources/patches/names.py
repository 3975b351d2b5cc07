"""The content of a BigEarthNet patch name."""

import re
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from fusmae.errors import SourceError

MAX_BETWEEN_SIDES = timedelta(days=7)
"""Maximum time between S1 and S2 of a pair; in the 590,326 pairs of v1 and 549,488 of v2 it is 5.74 days at most."""

_NAME = re.compile(
    r"(?:S1[AB]_IW_GRDH_1SDV|S2[AB]_MSIL2A)_(?P<day>\d{8})T(?P<time>\d{5,6})"
    r"(?:_N\d{4}_R\d{3})?(?:_T?(?P<tile>\d{2}[A-Z]{3}))?_(?P<column>\d+)_(?P<row>\d+)"
)


@dataclass(frozen=True, slots=True)
class PatchName:
    """What a patch's name states.

    Attributes:
        tile: name of the MGRS tile, such as "33UUP"; "" for S2 patches of v1, whose names lack it.
        column: number of patches between the patch and the tile's western edge.
        row: number of patches between the patch and the tile's northern edge.
        date: acquisition time (UTC), accurate to a few seconds.
    """

    tile: str
    column: int
    row: int
    date: datetime


def parse_patch_name(name: str) -> PatchName:
    """Parse the name of an S1 or S2 patch of v1 or v2.

    Raises:
        SourceError: the name is not a patch name.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise SourceError(
            "This is no BigEarthNet patch name.", got=name, expected="like S2A_MSIL2A_20170613T101031_87_48"
        )
    return PatchName(
        sys.intern(found["tile"] or ""),
        int(found["column"]),
        int(found["row"]),
        _date(name, found["day"], found["time"]),
    )


# Half a million patches come from a few hundred acquisitions.
@lru_cache(maxsize=4096)
def _acquisition(day: str, time: str) -> datetime:
    start = datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC)
    # v1 omits leading zeros (T93020 is 09:30:20) and has a second 61 (T94161), so the time is added, not parsed.
    clock = time.zfill(6)
    return start + timedelta(hours=int(clock[:2]), minutes=int(clock[2:4]), seconds=int(clock[4:]))


def _date(name: str, day: str, time: str) -> datetime:
    try:
        return _acquisition(day, time)
    except ValueError as error:
        raise SourceError(f"{name} has no valid date.", got=day, expected="YYYYMMDD") from error
