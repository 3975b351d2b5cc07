"""The ground that all scenes cover, and the CRS in which it is measured."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fusmae.errors import InputError
from fusmae.inference.scene.scene import Scene
from fusmae.rasters.geometry import Box, measures_metres, utm_code

_ROUNDING_DEG = 1e-6


def metric_crs(scene: Scene) -> Any:
    """The scene's CRS, or the UTM zone of its centre if the scene's CRS does not measure metres on the ground.

    Raises:
        InputError: the scene lies outside the area where its CRS is defined.
    """
    from rasterio.crs import CRS

    unit = 1000.0 if scene.crs.is_projected else 0.01
    lons, lats = _lon_lat(scene, (0, unit, 0), (0, 0, unit))
    if measures_metres(lons, lats, unit):
        return scene.crs
    return CRS.from_epsg(utm_code(lons[0], lats[0]))


def common_box(scenes: Mapping[str, Scene], crs: Any) -> Box:
    """Left, bottom, right and top, in `crs`, of the ground that every file covers.

    Raises:
        InputError: the files have no ground in common, or a scene in degrees goes beyond the 180th meridian.
    """
    for scene in scenes.values():
        _require_one_world(scene)
    boxes = [box for scene in scenes.values() for box in _boxes(scene, crs)]
    lefts, bottoms, rights, tops = zip(*boxes, strict=True)
    left, bottom, right, top = max(lefts), max(bottoms), min(rights), min(tops)
    if left >= right or bottom >= top:
        raise InputError(
            "The scenes don't overlap." if len(scenes) > 1 else "The scene's files don't overlap.",
            got="; ".join(f"{modality}: {_whereabouts(scene)}" for modality, scene in scenes.items()),
            expected="the same ground",
            hint=_mending(scenes),
        )
    return left, bottom, right, top


def _require_one_world(scene: Scene) -> None:
    """Refuse scenes in degrees that go beyond the 180th meridian.

    There, PROJ returns longitudes on the other side of the world, where the file has no pixels.
    """
    for crs, (left, bottom, right, top) in scene.boxes:
        if crs.is_geographic and (left < -180 - _ROUNDING_DEG or right > 180 + _ROUNDING_DEG):
            lon = ((left + right) / 2 + 180) % 360 - 180
            raise InputError(
                f"The {scene.modality} scene goes beyond the 180th meridian in degrees: part of it would not be found.",
                got=f"longitudes from {left:.4f} to {right:.4f}",
                expected="longitudes from -180 to 180, or a CRS in metres",
                # Not `rio warp`: it loses the half beyond the meridian, too.
                hint=f"gdalwarp -t_srs EPSG:{utm_code(lon, (bottom + top) / 2)} FILE NEW, and give that file",
            )


def _boxes(scene: Scene, crs: Any) -> Iterator[Box]:
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import RasterioError
    from rasterio.warp import transform_bounds

    for own, bounds in scene.boxes:
        try:
            box = transform_bounds(own, crs, *bounds)
        except (RasterioError, CPLE_BaseError):
            box = (math.inf,) * 4
        # A place on the other side of the world has no coordinates in this CRS.
        yield box if all(map(math.isfinite, box)) else (math.inf, math.inf, -math.inf, -math.inf)


def _lon_lat(scene: Scene, across: Sequence[float], up: Sequence[float]) -> tuple[list[float], list[float]]:
    """Longitudes and latitudes of points at the given distances (in units of the scene's CRS) from its centre."""
    from rasterio._err import CPLE_BaseError
    from rasterio.warp import transform

    crs, (left, bottom, right, top) = scene.boxes[0]
    x, y = (left + right) / 2, (bottom + top) / 2
    try:
        lons, lats = transform(crs, "EPSG:4326", [x + step for step in across], [y + step for step in up])
    except CPLE_BaseError:
        lons, lats = [math.inf], [math.inf]
    if not all(map(math.isfinite, (*lons, *lats))):
        raise InputError(
            f"The {scene.modality} scene lies outside its CRS.",
            got=f"centre ({x:g}, {y:g}) in {crs}",
            hint="its CRS or its transform is wrong: `rio info` shows both, `rio edit-info --crs` mends it",
        )
    return lons, lats


def _whereabouts(scene: Scene) -> str:
    (lon,), (lat,) = _lon_lat(scene, (0,), (0,))
    return f"{abs(lat):.2f}° {'NS'[lat < 0]}, {abs(lon):.2f}° {'EW'[lon < 0]} in {scene.crs.to_string()}"


def _mending(scenes: Mapping[str, Scene]) -> str:
    sides = {_lon_lat(scene, (0,), (0,))[1][0] < 0 for scene in scenes.values()}
    if len(sides) > 1:
        return (
            "they lie in different hemispheres: UTM zones are EPSG:326xx in the north and EPSG:327xx in the south; if "
            "one of them has the wrong one, `rio edit-info FILE --crs EPSG:…` mends it"
        )
    return "bring scenes of one place; `rio bounds FILE` shows where each lies"
