"""Where a raster's pixels lie: its box, its orientation, and whether its CRS measures metres."""

import math
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

Box = tuple[float, float, float, float]

# Maximum relative difference between a metre of a CRS and a metre on the ground; in UTM it is within 0.1 %.
_MAX_SCALE_ERROR = 0.01
_EARTH_RADIUS_M = 6_371_000.0


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

    Args:
        lons: longitudes in degrees of a point, of a point `unit` to its right and of a point `unit` above it.
        lats: latitudes of the same points in degrees.
        unit: distance of the points in units of the CRS.
    """
    shrinking = math.cos(math.radians(lats[0]))
    steps = [
        math.radians(math.hypot((lons[i] - lons[0]) * shrinking, lats[i] - lats[0])) * _EARTH_RADIUS_M for i in (1, 2)
    ]
    return all(abs(step / unit - 1) < _MAX_SCALE_ERROR for step in steps)


def utm_code(lon: float, lat: float) -> int:
    """Return the EPSG code of the UTM zone of a point, given in degrees."""
    return (32600 if lat >= 0 else 32700) + min(60, int((lon + 180) // 6) + 1)
