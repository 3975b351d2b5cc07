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


def north_up(pixels: NDArray[Any], transform: Any) -> NDArray[Any]:
    """Return pixels `[C, h, w]` with rows from north to south and columns from west to east, for any order on disk."""
    return pixels[:, :: -1 if transform.e > 0 else 1, :: -1 if transform.a < 0 else 1]


def north_up_transform(dataset: Any) -> Any:
    """Return the transform of pixels that `north_up` has reordered; the file's own if it is rotated or sheared."""
    from rasterio import Affine

    own = dataset.transform
    if is_turned(own):
        return own
    left, _, _, top = box_of(dataset)
    return Affine(abs(own.a), 0, left, 0, -abs(own.e), top)


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
    zone = min(60, int((lon + 180) // 6) + 1)
    return (32600 if lat >= 0 else 32700) + zone
