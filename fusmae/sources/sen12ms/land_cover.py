"""SEN12MS's land-cover tiles: the land cover of a pair, and its place on earth."""

import multiprocessing
import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fusmae.sources.sen12ms.labels import shares_of_pixels
from fusmae.sources.shared.raster import opened

_NUM_CHANNELS = 4
_MAX_PROCESSES = 16
_CHUNK = 256
# With fewer tiles, starting a pool takes longer than it saves.
_MIN_TILES_FOR_POOL = 4000


@dataclass(frozen=True, slots=True)
class LandCover:
    """One land-cover tile.

    Attributes:
        shares: shares of IGBP classes 1 to 17; None where they were not requested.
        crs: coordinate reference system as WKT.
        x: x coordinate of the tile's centre, in units of `crs`.
        y: y coordinate of the tile's centre, in units of `crs`.
        fault: reason why the tile can't be used, in which case the other attributes are empty; "" if it can be used.
    """

    shares: list[float] | None = None
    crs: str = ""
    x: float = 0.0
    y: float = 0.0
    fault: str = ""


def read_land_covers(paths: Sequence[Path], *, with_shares: bool) -> list[LandCover]:
    """Read land-cover tiles, in their order; about 500 tiles per second and processor core.

    Args:
        paths: paths of the tiles.
        with_shares: whether to read the pixels too, not only the place of the tile.
    """
    read = partial(_read, with_shares=with_shares)
    num_processes = min(os.cpu_count() or 1, _MAX_PROCESSES)
    if len(paths) < _MIN_TILES_FOR_POOL or num_processes == 1:
        return [read(path) for path in paths]
    # Processes, not threads: nine tenths of opening a small GeoTIFF runs under the interpreter's lock.
    # They are spawned, because a forked process would inherit locks that another thread may hold.
    with ProcessPoolExecutor(num_processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(read, paths, chunksize=_CHUNK))


def lon_lat(covers: Sequence[LandCover]) -> list[tuple[float | None, float | None]]:
    """Return longitude and latitude (WGS 84) of each tile's centre; None where the tile can't be used."""
    from rasterio.warp import transform

    rows: dict[str, list[int]] = defaultdict(list)
    for row, cover in enumerate(covers):
        if not cover.fault:
            rows[cover.crs].append(row)
    found: list[tuple[float | None, float | None]] = [(None, None)] * len(covers)
    for crs, members in rows.items():  # about 60 UTM zones: one transformation per zone
        xs, ys = [covers[row].x for row in members], [covers[row].y for row in members]
        for row, lon, lat in zip(members, *transform(crs, "EPSG:4326", xs, ys), strict=True):
            found[row] = (float(lon), float(lat))
    return found


def _read(path: Path, *, with_shares: bool) -> LandCover:
    from rasterio.errors import RasterioError

    if not path.is_file():
        return LandCover(fault="is absent")
    try:
        with opened(path) as dataset:
            kind = dataset.dtypes[0]
            if dataset.count != _NUM_CHANNELS or not kind.startswith("uint") or dataset.crs is None:
                return LandCover(fault=f"has {dataset.count} channels of {kind} and CRS {dataset.crs}")
            left, bottom, right, top = dataset.bounds
            crs = dataset.crs.to_wkt()
            shares = shares_of_pixels(dataset.read(1)) if with_shares else None  # IGBP is the first channel
    except RasterioError as error:
        return LandCover(fault=f"cannot be read: {error.__cause__ or error}")
    if with_shares and shares is None:
        return LandCover(fault="has no pixel with an IGBP class")
    return LandCover(shares, crs, (left + right) / 2, (bottom + top) / 2)
