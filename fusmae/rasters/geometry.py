"""Where a raster's pixels lie: its box, its orientation, and whether its CRS measures metres."""

import math
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray
from rasterio import warp
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError

Box = tuple[float, float, float, float]

# Maximum relative difference between a metre of a CRS and a metre on the ground; in UTM it is within 0.1 %.
_MAX_SCALE_ERROR = 0.01
_EARTH_RADIUS_M = 6_371_000.0
_M_PER_DEGREE = 111_195


def is_turned(transform: Any) -> bool:
    """Return whether a raster is rotated or sheared, so that its rows don't run between west and east."""
    return bool(transform.b or transform.d)


def steps_north_up(transform: Any) -> tuple[int, int]:
    """Return steps of rows and columns, 1 or -1, with which they run south and east; 1 and 1 if they are turned."""
    return (1, 1) if is_turned(transform) else (-1 if transform.e > 0 else 1, -1 if transform.a < 0 else 1)


def north_up(pixels: NDArray[Any], transform: Any) -> NDArray[Any]:
    """Return pixels `[C, h, w]` with rows from north to south and columns from west to east, for any order on disk."""
    down, right = steps_north_up(transform)
    return pixels[:, ::down, ::right]


def box_of(dataset: Any) -> Box:
    """Return left, bottom, right and top of a raster; a file stored south up states its bottom above its top."""
    left, bottom, right, top = dataset.bounds
    return min(left, right), min(bottom, top), max(left, right), max(bottom, top)


def measures_metres(lons: Sequence[float], lats: Sequence[float], unit: float) -> bool:
    """Return whether a CRS's units are metres on the ground.

    Longitudes and latitudes, in degrees, are of a point and of the points that are `unit` to its right and above it.
    """
    shrinking = math.cos(math.radians(lats[0]))
    turns = [math.hypot((lon - lons[0]) * shrinking, lat - lats[0]) for lon, lat in zip(lons, lats, strict=True)][1:]
    return all(abs(math.radians(turn) * _EARTH_RADIUS_M / unit - 1) < _MAX_SCALE_ERROR for turn in turns)


def lon_lat(crs: Any, xs: Sequence[float], ys: Sequence[float]) -> tuple[list[float], list[float]] | None:
    """Return longitudes and latitudes (WGS 84) of points; None where the CRS is a local grid, not a place on earth."""
    try:
        lons, lats = warp.transform(crs, "EPSG:4326", xs, ys)
    except (RasterioError, CPLE_BaseError):  # it raises GDAL's own errors
        return None
    return (lons, lats) if all(map(math.isfinite, (*lons, *lats))) else None


def cell_row(lat: float, side_m: int) -> int:
    """Return the row, counted from the equator, of the cells of some `side_m` that a latitude is in."""
    return math.floor(lat / (side_m / _M_PER_DEGREE))


def cell_column(lon: float, row: int, side_m: int) -> int:
    """Return the column, counted from Greenwich, of the cell of a row that a longitude is in."""
    side = side_m / _M_PER_DEGREE
    # All cells of a row have one width; otherwise neighbouring cells would not meet.
    shrinking = math.cos(math.radians((row + 0.5) * side))
    return math.floor(lon * shrinking / side)


def utm_code(lon: float, lat: float) -> int:
    """Return the EPSG code of the UTM zone of a point, given in degrees."""
    return (32600 if lat >= 0 else 32700) + min(60, int((lon + 180) // 6) + 1)
