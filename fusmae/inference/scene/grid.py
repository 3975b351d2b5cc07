"""The grid of a map: where its tiles, cells and pixels lie, in metres. Every scene is read onto it."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.transform import from_origin
from rasterio.warp import transform_bounds

from fusmae.errors import InputError
from fusmae.inference.scene.scene import Scene, richest_first
from fusmae.modalities import ModalityInput, tile_side_m
from fusmae.rasters.geometry import Box, lon_lat, measures_metres, utm_code
from fusmae.rasters.raster_file import Flags

# A block's side is at least the stride divided by this: overlapping tiles show no finer detail.
_BLOCKS_PER_STRIDE = 5
# Least side in metres of a block where a map's cells are finer than blocks.
_LEAST_BLOCK_M = 60
_ROUNDING_M = 1e-3
_DEGREES = "EPSG:4326"
# In pixels, cells or degrees.
_ROUNDING = 1e-6
# Width in metres of the columns of tiles that are read at once; it bounds memory whatever the scene's width.
_STRIP_M = 60_000


@dataclass(frozen=True)
class Unit:
    """Tiles that are read, predicted and stored together: a part of one row of tiles."""

    number: int  # its place in the order of units, from 0
    top_m: int  # distance of its tiles' upper edge from the grid's top
    lefts_m: tuple[int, ...]  # distances of its tiles' left edges from the grid's left
    height_m: int  # height of the cells that belong to this unit and to no other
    width_m: int  # width of these cells

    @property
    def left_m(self) -> int:
        """Distance of its first tile and cell from the grid's left."""
        return self.lefts_m[0]


@dataclass(frozen=True)
class Grid:
    """The grid of a map; it may reach beyond the ground that all scenes cover."""

    crs: Any  # CRS whose unit is the metre
    left: float  # x of the first cell's left edge in `crs`, less than a pixel of every array outside the ground
    top: float  # y of the first cell's upper edge in `crs`, outside by as little
    tile_m: int  # side of a tile
    stride_m: int  # distance from a tile to the next; the last one of a row or column may be nearer
    cell_m: int  # side of a cell, which is a pixel of the map
    width_m: int  # width of the whole grid, a multiple of the cell's side and of all pixels that are read
    height_m: int  # height of the whole grid, likewise
    # Top, left, bottom and right of the ground, from the grid's top and left; None for the whole grid.
    ground_m: tuple[float, float, float, float] | None = None
    # Side of the largest squares of which each unit is a whole number; a multiple of a cell's. None for the cell's.
    block_m: int | None = None

    def is_ground(self, gsd_m: int, box_m: tuple[int, int, int, int]) -> tuple[Flags, Flags]:
        """Flags of the rows `[h]` and columns `[w]` of pixels whose centre is on the scenes' ground.

        The pixels, `gsd_m` wide, are those of a window: its top, left, height and width in metres of the grid.
        """
        top_m, left_m, height_m, width_m = box_m
        first_m, start_m, last_m, end_m = self.ground_m or (0, 0, self.height_m, self.width_m)
        rows = top_m + (np.arange(height_m // gsd_m) + 0.5) * gsd_m
        columns = left_m + (np.arange(width_m // gsd_m) + 0.5) * gsd_m
        return (rows > first_m) & (rows < last_m), (columns > start_m) & (columns < end_m)

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and columns of cells."""
        return self.height_m // self.cell_m, self.width_m // self.cell_m

    @property
    def tile_tops_m(self) -> tuple[int, ...]:
        """Distance of each row of tiles from the grid's top."""
        return (*range(0, self.height_m - self.tile_m, self.stride_m), self.height_m - self.tile_m)

    @property
    def tile_lefts_m(self) -> tuple[int, ...]:
        """Distance of each column of tiles from the grid's left."""
        return (*range(0, self.width_m - self.tile_m, self.stride_m), self.width_m - self.tile_m)

    def transform(self, gsd_m: float) -> Any:
        """Affine transform of pixels whose side is `gsd_m`."""
        return from_origin(self.left, self.top, gsd_m, gsd_m)

    def units(self) -> list[Unit]:
        """All tiles in units: one block of columns after another, each from top to bottom."""
        tops, lefts = self.tile_tops_m, self.tile_lefts_m
        num_columns = max(1, (_STRIP_M - self.tile_m) // self.stride_m)
        blocks = [lefts[start : start + num_columns] for start in range(0, len(lefts), num_columns)]
        ends = [block[0] for block in blocks[1:]] + [self.width_m]
        bottoms = [*tops[1:], self.height_m]
        return [
            Unit(column * len(tops) + row, top, block, bottom - top, end - block[0])
            for column, (block, end) in enumerate(zip(blocks, ends, strict=True))
            for row, (top, bottom) in enumerate(zip(tops, bottoms, strict=True))
        ]


def lay_grid(
    scenes: Mapping[str, Scene],
    inputs: Sequence[ModalityInput],
    stride_m: int | None,
    *,
    has_cells: bool = True,
    cell_m: int | None = None,
) -> Grid:
    """Lay the grid over the ground that all scenes cover, to its last pixel.

    The grid is in the CRS of the scene with the most bands and aligned with its pixels, so that the fewest are
    resampled. If that CRS does not measure metres on the ground (degrees, feet, Web Mercator), it is in the UTM zone of
    the scene's centre. The stride from a tile to the next is half a tile if it is None. `cell_m` is the side of a cell
    of a model that answers per pixel; None for cells as fine as the overlap of tiles can show. Where the output has no
    cells, as a map has, but only tiles, the grid reaches less far beyond the ground.

    Raises:
        InputError: the scenes don't overlap, the ground is smaller than a tile, or the stride does not fit the tile.
    """
    tile_m = tile_side_m(inputs)
    step_m = math.lcm(*(item.gsd_m for item in inputs), cell_m or 1)
    stride_m = _checked_stride(stride_m, tile_m, step_m)
    least_m = min(stride_m, _LEAST_BLOCK_M) if cell_m else stride_m / _BLOCKS_PER_STRIDE if has_cells else 0
    block_m = next(block for block in range(step_m, stride_m + 1, step_m) if stride_m % block == 0 and block >= least_m)
    main = richest_first(scenes)[0]
    crs = _metric_crs(main)
    left, bottom, right, top = _common_box(scenes, crs)
    at_left, at_top = (main.transform.c, main.transform.f) if crs == main.crs else (0.0, 0.0)
    grid_left = at_left + math.floor((left - at_left) / step_m + _ROUNDING) * step_m
    grid_top = at_top - math.floor((at_top - top) / step_m + _ROUNDING) * step_m
    sides = (right - grid_left, grid_top - bottom)
    width_m, height_m = (math.ceil(side / block_m - _ROUNDING) * block_m for side in sides)
    if min(right - left, top - bottom) < tile_m - _ROUNDING_M:
        raise InputError(
            "The scenes have less ground in common than a tile." if len(scenes) > 1 else "The scene is too small.",
            got=f"{max(0, right - left):.0f} x {max(0, top - bottom):.0f} m",
            expected=f"{tile_m} x {tile_m} m at least, which the model sees at once",
            hint="a larger --bbox, if the scenes have more ground" if main.bbox else "",
        )
    ground_m = (grid_top - top, left - grid_left, grid_top - bottom, right - grid_left)
    return Grid(crs, grid_left, grid_top, tile_m, stride_m, cell_m or block_m, width_m, height_m, ground_m, block_m)


def _checked_stride(stride_m: int | None, tile_m: int, step_m: int) -> int:
    allowed = [stride for stride in range(step_m, tile_m + 1, step_m) if tile_m % stride == 0]
    if stride_m is None:
        return min(allowed, key=lambda stride: abs(stride - tile_m // 2))
    if stride_m not in allowed:
        raise InputError(
            f"Tiles of {tile_m} m can't follow one another at {stride_m} m.",
            expected=f"--stride of {', '.join(map(str, allowed))} m: it divides the tile, and all pixels divide it",
        )
    return stride_m


def _metric_crs(scene: Scene) -> Any:
    """The scene's CRS, or the UTM zone of its centre if the scene's CRS does not measure metres on the ground."""
    unit = 1000.0 if scene.crs.is_projected else 0.01
    lons, lats = _lon_lat(scene, unit)
    return scene.crs if measures_metres(lons, lats, unit) else CRS.from_epsg(utm_code(lons[0], lats[0]))


def _common_box(scenes: Mapping[str, Scene], crs: Any) -> Box:
    """Left, bottom, right and top, in `crs`, of the ground that every file covers."""
    boxes = [_box_in(crs, scene.modality, *place) for scene in scenes.values() for place in scene.boxes]
    lefts, bottoms, rights, tops = zip(*boxes, strict=True)
    left, bottom, right, top = max(lefts), max(bottoms), min(rights), min(tops)
    if left >= right or bottom >= top:
        places = {modality: _lon_lat(scene) for modality, scene in scenes.items()}
        raise InputError(
            "The scenes don't overlap." if len(scenes) > 1 else "The scene's files don't overlap.",
            got="; ".join(
                f"{modality}: {abs(lat):.2f}° {'NS'[lat < 0]}, {abs(lon):.2f}° {'EW'[lon < 0]} in "
                f"{scenes[modality].crs.to_string()}"
                for modality, ((lon, *_), (lat, *_)) in places.items()
            ),
            expected="the same ground",
            hint="they lie in different hemispheres: UTM zones are EPSG:326xx in the north and EPSG:327xx in the "
            "south; if one of them has the wrong one, `rio edit-info FILE --crs EPSG:…` mends it"
            if len({lats[0] < 0 for _, lats in places.values()}) > 1
            else "bring scenes of one place; `rio bounds FILE` shows where each lies",
        )
    bbox = next(iter(scenes.values())).bbox
    return (left, bottom, right, top) if bbox is None else _wanted_part((left, bottom, right, top), bbox, crs)


def _wanted_part(ground: Box, bbox: Box, crs: Any) -> Box:
    """The part of the ground, in `crs`, that is in a box in degrees."""
    sides = list(zip(ground, transform_bounds(_DEGREES, crs, *bbox), strict=True))
    left, bottom, right, top = *map(max, sides[:2]), *map(min, sides[2:])
    if left >= right or bottom >= top:
        raise InputError(
            "What --bbox asks for is not on the scenes.",
            got=",".join(f"{side:g}" for side in bbox),
            expected=f"a part of {','.join(f'{side:.4f}' for side in transform_bounds(crs, _DEGREES, *ground))}: west, "
            "south, east and north in degrees",
        )
    return left, bottom, right, top


def _box_in(crs: Any, modality: str, own: Any, box: Box) -> Box:
    """A file's box, brought from its own CRS to another one; an impossible box if it has no coordinates there."""
    left, bottom, right, top = box
    # Beyond 180 degrees PROJ returns longitudes on the other side of the world, where the file has no pixels.
    if own.is_geographic and (left < -180 - _ROUNDING or right > 180 + _ROUNDING):
        lon = ((left + right) / 2 + 180) % 360 - 180
        raise InputError(
            f"The {modality} scene goes beyond the 180th meridian in degrees: part of it would not be found.",
            got=f"longitudes from {left:.4f} to {right:.4f}",
            expected="longitudes from -180 to 180, or a CRS in metres",
            # Not `rio warp`: it loses the half beyond the meridian, too.
            hint=f"gdalwarp -t_srs EPSG:{utm_code(lon, (bottom + top) / 2)} FILE NEW, and give that file",
        )
    with suppress(RasterioError, CPLE_BaseError):
        left, bottom, right, top = transform_bounds(own, crs, *box)
        if all(map(math.isfinite, (left, bottom, right, top))):
            return left, bottom, right, top
    return math.inf, math.inf, -math.inf, -math.inf


def _lon_lat(scene: Scene, unit: float = 0) -> tuple[list[float], list[float]]:
    """Longitudes and latitudes of a scene's centre, and of points `unit` (in its CRS) to the right of and above it."""
    crs, (left, bottom, right, top) = scene.boxes[0]
    x, y = (left + right) / 2, (bottom + top) / 2
    found = lon_lat(crs, [x, x + unit, x], [y, y, y + unit])
    if found is None:
        raise InputError(
            f"The {scene.modality} scene lies outside its CRS.",
            got=f"centre ({x:g}, {y:g}) in {crs}",
            hint="its CRS or its transform is wrong: `rio info` shows both, `rio edit-info --crs` mends it",
        )
    return found
