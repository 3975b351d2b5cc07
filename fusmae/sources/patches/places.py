"""Patches by their names: where and when each was taken, and the places, whose patches must not be in two splits."""

import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rasterio.warp import transform

from fusmae.data.index import SPLITS, Pair, Split
from fusmae.errors import SourceError

PATCH_M = 1200
"""Side length of a patch in metres."""

MAX_BETWEEN_SIDES = timedelta(days=7)
"""Maximum time between S1 and S2 of a pair; in the 590,326 pairs of v1 and 549,488 of v2 it is 5.74 days at most."""

_NAME = re.compile(
    r"(?:S1[AB]_IW_GRDH_1SDV|S2[AB]_MSIL2A)_(?P<day>\d{8})T(?P<time>\d{5,6})"
    r"(?:_N\d{4}_R\d{3})?(?:_T?(?P<tile>\d{2}[A-Z]{3}))?_(?P<column>\d+)_(?P<row>\d+)"
)

PLACE_DISTANCE_M = 10_000
"""Distance in metres below which two patches are of one place, as are all patches linked by such steps."""

_EUROPE_EPSG, _WGS84_EPSG = 3035, 4326
_GRID_M, _SQUARE_M = 60, 100_000
_BANDS = "CDEFGHJKLMNPQRSTUVWX"
MGRS_ROWS = "ABCDEFGHJKLMNPQRSTUV"
MGRS_COLUMNS = ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")


class PatchName(NamedTuple):
    """What a patch's name states."""

    tile: str  # name of the MGRS tile, such as "33UUP"; "" for S2 patches of v1, whose names lack it
    column: int  # number of patches between the patch and the tile's western edge
    row: int  # number of patches between the patch and the tile's northern edge
    date: datetime  # acquisition time (UTC), accurate to a few seconds


def parse_patch_name(name: str) -> PatchName:
    """Parse the name of an S1 or S2 patch of v1 or v2.

    Raises:
        SourceError: the name is not a patch name.
    """
    parts = _NAME.fullmatch(name)
    if parts is None:
        expected = "like S2A_MSIL2A_20170613T101031_87_48"
        raise SourceError("This is not the name of a BigEarthNet patch.", got=name, expected=expected)
    try:
        date = _acquisition(parts["day"], parts["time"])
    except ValueError as error:
        raise SourceError(f"{name} has no valid date.", got=parts["day"], expected="YYYYMMDD") from error
    return PatchName(sys.intern(parts["tile"] or ""), int(parts["column"]), int(parts["row"]), date)


# Half a million patches come from a few hundred acquisitions.
@lru_cache(maxsize=4096)
def _acquisition(day: str, time: str) -> datetime:
    start = datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC)
    # v1 omits leading zeros (T93020 is 09:30:20) and has a second 61 (T94161), so the time is added, not parsed.
    clock = time.zfill(6)
    return start + timedelta(hours=int(clock[:2]), minutes=int(clock[2:4]), seconds=int(clock[4:]))


def with_places(pairs: Sequence[Pair], patches: Sequence[PatchName]) -> list[Pair]:
    """Give pairs their place, by their patches with tiles, and each place one split; their order changes neither."""
    places = place_names(patches)
    splits: dict[str, set[Split]] = defaultdict(set)
    for pair, place in zip(pairs, places, strict=True):
        splits[place].add(pair.split)
    # Moving pairs towards test only makes training smaller, while moving them towards train would leak test data.
    settled = {place: max(stated, key=SPLITS.index) for place, stated in splits.items()}
    return [
        replace(pair, place=place, split=settled[place], lon=lon, lat=lat)
        for pair, place, (lon, lat) in zip(pairs, places, centres(patches), strict=True)
    ]


def place_names(patches: Sequence[PatchName]) -> list[str]:
    """Name each patch's place after its first patch (by tile, column, row), such as "33UUP_26_55"."""
    from sklearn.cluster import DBSCAN

    # With min_samples=1 every patch is a core point: DBSCAN is then single linkage cut at eps.
    # MGRS tiles overlap by 10 km and UTM zones meet within one country (Finland: 34 and 35): distances within a tile or
    # zone alone would miss neighbours on the other side.
    clusters = DBSCAN(eps=PLACE_DISTANCE_M, min_samples=1).fit_predict(_positions(patches, _EUROPE_EPSG))
    members: dict[int, list[PatchName]] = defaultdict(list)
    for cluster, patch in zip(clusters, patches, strict=True):
        members[cluster].append(patch)
    names = {cluster: ground_cell(min(some)) for cluster, some in members.items()}
    return [names[cluster] for cluster in clusters]


def ground_cell(patch: PatchName) -> str:
    """Return the name of the 1.2 km square of ground that a patch shows, such as "33UUP_26_55".

    Patches of one cell show it on different dates. Cells of overlapping tiles are not recognised as one.
    """
    return f"{patch.tile}_{patch.column:02d}_{patch.row:02d}"


def centres(patches: Sequence[PatchName]) -> list[tuple[float, float]]:
    """Return longitude and latitude in degrees (WGS 84) of each patch's centre."""
    positions = _positions(patches, _WGS84_EPSG, shift_m=PATCH_M / 2)
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


def _positions(patches: Sequence[PatchName], to_epsg: int, shift_m: float = 0.0) -> NDArray[np.float64]:
    """Return positions `[N, 2]` in one CRS of points `shift_m` right of and below the patches' upper left corners."""
    corners = np.fromiter(map(utm_corner, patches), dtype=np.dtype((np.int64, 3)), count=len(patches))
    positions = np.empty((len(patches), 2), dtype=np.float64)
    for epsg in np.unique(corners[:, 0]):
        rows = corners[:, 0] == epsg
        _, xs, ys = corners[rows].T
        found = transform(f"EPSG:{epsg}", f"EPSG:{to_epsg}", xs + shift_m, ys - shift_m)
        positions[rows] = np.stack(found, axis=1)
    return positions
