"""Patches by their names: where and when each was taken, and the places, whose patches must not be in two splits."""

import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.data.index import Pair, Split
from fusmae.errors import SourceError
from fusmae.sources.patches.bands import PATCH_M

MAX_BETWEEN_SIDES = timedelta(days=7)
"""Maximum time between S1 and S2 of a pair; in the 590,326 pairs of v1 and 549,488 of v2 it is 5.74 days at most."""

_NAME = re.compile(
    r"(?:S1[AB]_IW_GRDH_1SDV|S2[AB]_MSIL2A)_(?P<day>\d{8})T(?P<time>\d{5,6})"
    r"(?:_N\d{4}_R\d{3})?(?:_T?(?P<tile>\d{2}[A-Z]{3}))?_(?P<column>\d+)_(?P<row>\d+)"
)

PLACE_DISTANCE_M = 10_000
"""Distance in metres below which two patches are of one place, as are all patches linked by such steps."""

# A place with pairs of several splits goes to the first of these splits that it has: moving pairs towards test only
# makes training smaller, while moving them towards train would leak test data.
_MOST_HELD_OUT: tuple[Split, ...] = ("test", "validation", "train")
_EUROPE_EPSG = 3035
_WGS84_EPSG = 4326
_GRID_M = 60
_SQUARE_M = 100_000
_BANDS = "CDEFGHJKLMNPQRSTUVWX"
MGRS_ROWS = "ABCDEFGHJKLMNPQRSTUV"
MGRS_COLUMNS = ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")


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
    parts = _NAME.fullmatch(name)
    if parts is None:
        raise SourceError(
            "This is not the name of a BigEarthNet patch.", got=name, expected="like S2A_MSIL2A_20170613T101031_87_48"
        )
    return PatchName(
        sys.intern(parts["tile"] or ""),
        int(parts["column"]),
        int(parts["row"]),
        _date(name, parts["day"], parts["time"]),
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


def with_places(pairs: Sequence[Pair], patches: Sequence[PatchName]) -> list[Pair]:
    """Give pairs their place, and each place one split.

    Args:
        pairs: pairs with the splits that their dataset states.
        patches: patch name of each pair, with its tile, in the same order.

    Returns:
        The pairs in their order; places and splits don't depend on the order.

    Raises:
        SourceError: a tile is not an MGRS tile of the northern hemisphere.
    """
    places = place_names(patches)
    splits: dict[str, set[Split]] = defaultdict(set)
    for pair, place in zip(pairs, places, strict=True):
        splits[place].add(pair.split)
    settled = {place: next(split for split in _MOST_HELD_OUT if split in stated) for place, stated in splits.items()}
    return [
        replace(pair, place=place, split=settled[place], lon=lon, lat=lat)
        for pair, place, (lon, lat) in zip(pairs, places, centres(patches), strict=True)
    ]


def place_names(patches: Sequence[PatchName]) -> list[str]:
    """Name each patch's place after its first patch (by tile, column, row), such as "33UUP_26_55".

    Raises:
        SourceError: a tile is not an MGRS tile of the northern hemisphere.
    """
    from sklearn.cluster import DBSCAN

    # With min_samples=1 every patch is a core point: DBSCAN is then single linkage cut at eps.
    clusters = DBSCAN(eps=PLACE_DISTANCE_M, min_samples=1).fit_predict(_positions_m(patches))
    members: dict[int, list[tuple[str, int, int]]] = defaultdict(list)
    for cluster, patch in zip(clusters, patches, strict=True):
        members[cluster].append((patch.tile, patch.column, patch.row))
    firsts = {cluster: min(patches) for cluster, patches in members.items()}
    return ["{}_{:02d}_{:02d}".format(*firsts[cluster]) for cluster in clusters]


def ground_cell(patch: PatchName) -> str:
    """Return the name of the 1.2 km square of ground that a patch shows, such as "33UUP_26_55".

    Patches of one cell show it on different dates. Cells of overlapping tiles are not recognised as one.
    """
    return f"{patch.tile}_{patch.column:02d}_{patch.row:02d}"


def centres(patches: Sequence[PatchName]) -> list[tuple[float, float]]:
    """Return longitude and latitude in degrees (WGS 84) of each patch's centre.

    Raises:
        SourceError: a tile is not an MGRS tile of the northern hemisphere.
    """
    half = PATCH_M / 2
    positions = np.empty((len(patches), 2), dtype=np.float64)
    for epsg, rows, xs, ys in _by_zone(patches):
        positions[rows] = _transformed(epsg, _WGS84_EPSG, xs + half, ys - half)
    # Rounded to a tenth of a metre, because versions of PROJ differ by less than that.
    return [(lon, lat) for lon, lat in positions.round(6).tolist()]


def utm_corner(patch: PatchName) -> tuple[int, int, int]:
    """Return the patch's upper left corner as (EPSG code, easting, northing), in metres.

    Raises:
        SourceError: the tile is not an MGRS tile of the northern hemisphere.
    """
    epsg, easting, northing = _tile_corner(patch.tile)
    return epsg, easting + patch.column * PATCH_M, northing - patch.row * PATCH_M


@lru_cache(maxsize=4096)
def _tile_corner(tile: str) -> tuple[int, int, int]:
    try:
        zone, band = int(tile[:2]), _BANDS.index(tile[2])
        column = MGRS_COLUMNS[(zone - 1) % 3].index(tile[3]) + 1
        # In even zones the row letters start five squares later.
        row = (MGRS_ROWS.index(tile[4]) - (0 if zone % 2 else 5)) % len(MGRS_ROWS)
    except (ValueError, IndexError) as error:
        raise SourceError("This is not an MGRS tile.", got=tile, expected="like 33UUP") from error
    if tile[2] < "N" or not 1 <= zone <= 60:
        raise SourceError("Places are made for MGRS tiles of the northern hemisphere only.", got=tile)
    # The letters repeat every 2,000 km; the band (8 degrees of latitude, each about 110.57 km) tells which repetition.
    lowest = int((8 * band - 80) * 110_570 // _SQUARE_M)
    row += -(-(lowest - row) // len(MGRS_ROWS)) * len(MGRS_ROWS)
    easting, northing = column * _SQUARE_M, (row + 1) * _SQUARE_M
    # Tiles start at the corner of their 100 km square, moved outwards to the grid that all resolutions share.
    return 32600 + zone, easting // _GRID_M * _GRID_M, -(-northing // _GRID_M) * _GRID_M


def _positions_m(patches: Sequence[PatchName]) -> NDArray[np.float64]:
    """Return positions `[N, 2]` in metres in one plane for all of Europe.

    MGRS tiles overlap by 10 km and UTM zones meet within one country (Finland: 34 and 35), so distances within a tile
    or zone alone would miss neighbours on the other side.
    """
    positions = np.empty((len(patches), 2), dtype=np.float64)
    for epsg, rows, xs, ys in _by_zone(patches):
        positions[rows] = _transformed(epsg, _EUROPE_EPSG, xs, ys)
    return positions


def _by_zone(
    patches: Sequence[PatchName],
) -> Iterator[tuple[int, NDArray[np.intp], NDArray[np.int64], NDArray[np.int64]]]:
    """Yield per UTM zone: EPSG code, rows of its patches, and eastings and northings of their upper left corners."""
    corners = np.fromiter(map(utm_corner, patches), dtype=np.dtype((np.int64, 3)), count=len(patches))
    for epsg in np.unique(corners[:, 0]):
        (rows,) = np.nonzero(corners[:, 0] == epsg)
        yield int(epsg), rows, corners[rows, 1], corners[rows, 2]


def _transformed(epsg: int, to_epsg: int, xs: NDArray[Any], ys: NDArray[Any]) -> NDArray[np.float64]:
    from rasterio.warp import transform

    return np.stack(transform(f"EPSG:{epsg}", f"EPSG:{to_epsg}", xs, ys), axis=1)
