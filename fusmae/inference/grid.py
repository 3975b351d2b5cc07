"""Where tiles, cells and pixels of a map lie: one lattice in metres, onto which every scene is read."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fusmae.errors import InputError
from fusmae.inference.ground import common_box, metric_crs
from fusmae.inference.scene import Scene
from fusmae.modalities import ModalityInput

# A cell is at least this part of the stride: overlapping tiles show no more detail than that.
_CELLS_PER_STRIDE = 5
# Columns of tiles that are read at once: bounds memory whatever the scene's width.
_STRIP_M = 60_000


@dataclass(frozen=True)
class Unit:
    """Tiles that are read, predicted and kept together: a part of one row.

    Attributes:
        number: its place in the order.
        top_m: of its tiles, from the grid's top.
        lefts_m: of its tiles, from the grid's left.
        height_m: of the cells that it alone reports.
        width_m: likewise.
    """

    number: int
    top_m: int
    lefts_m: tuple[int, ...]
    height_m: int
    width_m: int

    @property
    def left_m(self) -> int:
        """Of its first tile and cell."""
        return self.lefts_m[0]


@dataclass(frozen=True)
class Grid:
    """The lattice of a map.

    Attributes:
        crs: in which a unit is a metre.
        left: of the first cell, in `crs`.
        top: likewise.
        tile_m: side of a tile.
        stride_m: from a tile to the next; the last of a row or column may be nearer.
        cell_m: side of the map's pixels.
        width_m: of the whole, a multiple of cell_m.
        height_m: likewise.
    """

    crs: Any
    left: float
    top: float
    tile_m: int
    stride_m: int
    cell_m: int
    width_m: int
    height_m: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        return self.height_m // self.cell_m, self.width_m // self.cell_m

    @property
    def tile_tops_m(self) -> tuple[int, ...]:
        """Of each row of tiles, from the grid's top."""
        return _starts(self.height_m, self.tile_m, self.stride_m)

    @property
    def tile_lefts_m(self) -> tuple[int, ...]:
        """Of each column of tiles, from the grid's left."""
        return _starts(self.width_m, self.tile_m, self.stride_m)

    def transform(self, gsd_m: float) -> Any:
        """Affine transform of pixels of `gsd_m`."""
        from rasterio.transform import from_origin

        return from_origin(self.left, self.top, gsd_m, gsd_m)

    def units(self) -> list[Unit]:
        """All tiles, block of columns by block of columns, from top to bottom in each."""
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


def lay_grid(scenes: Mapping[str, Scene], inputs: Sequence[ModalityInput], stride_m: int | None) -> Grid:
    """The grid over the ground that all scenes cover.

    It is in the CRS of the S2 scene (of S1 where there is no other) and in step with its pixels; in the UTM zone of
    the scene's centre where that CRS does not measure metres on the ground (degrees, feet, Web Mercator).

    Args:
        scenes: by modality.
        inputs: the arrays that the model takes.
        stride_m: from tile to tile; None for half a tile.

    Raises:
        InputError: scenes that don't overlap, less ground than a tile, a stride that does not fit the tile.
    """
    tile_m = inputs[0].side_px * inputs[0].gsd_m
    step_m = math.lcm(*(item.gsd_m for item in inputs))
    stride_m = _checked_stride(stride_m, tile_m, step_m)
    cell_m = next(
        cell
        for cell in range(step_m, stride_m + 1, step_m)
        if stride_m % cell == 0 and cell * _CELLS_PER_STRIDE >= stride_m
    )
    main = scenes["s2"] if "s2" in scenes else next(iter(scenes.values()))
    crs = metric_crs(main)
    left, bottom, right, top = common_box(scenes, crs)
    # In step with the main scene's pixels, so that they are taken as they are.
    at_left, at_top = (main.transform.c, main.transform.f) if crs == main.crs else (0.0, 0.0)
    left = at_left + _ceil((left - at_left) / step_m) * step_m
    top = at_top - _ceil((at_top - top) / step_m) * step_m
    width_m, height_m = (_floor(side / cell_m) * cell_m for side in (right - left, top - bottom))
    if min(width_m, height_m) < tile_m:
        raise InputError(
            "The scenes have less ground in common than a tile." if len(scenes) > 1 else "The scene is too small.",
            got=f"{max(0, right - left):.0f} x {max(0, top - bottom):.0f} m",
            expected=f"{tile_m} x {tile_m} m at least, which the model sees at once",
        )
    return Grid(crs, left, top, tile_m, stride_m, cell_m, width_m, height_m)


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


def _starts(length_m: int, tile_m: int, stride_m: int) -> tuple[int, ...]:
    starts = list(range(0, length_m - tile_m + 1, stride_m))
    last = length_m - tile_m
    return tuple(starts if starts[-1] == last else [*starts, last])


def _ceil(value: float) -> int:
    return math.ceil(value - 1e-6)


def _floor(value: float) -> int:
    return math.floor(value + 1e-6)
