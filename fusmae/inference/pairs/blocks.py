"""Splits of tiles by blocks of ground, so that no tile is near one of another split, whatever scenes they come from.

Blocks are cells of the earth, and the split of a block depends on its place and the seed alone: scenes of other dates,
and of neighbouring UTM zones, that are cut later agree with those that were cut before. A tile belongs to the block
that its centre lies in. Tiles of two splits that are nearer to one another than the gap are not both taken: test comes
before validation, validation before train, and tiles that are there already before new ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.warp import transform

from fusmae.data.index import SPLITS, Split
from fusmae.data.randomness import Purpose, generator
from fusmae.errors import InputError
from fusmae.inference.scene.grid import Grid
from fusmae.rasters.geometry import cell_column, cell_row, lon_lat
from fusmae.rasters.raster_file import Flags

NEAR_ANOTHER = -1
"""Number of a tile that is too near to one of another split, in place of its split's position in `SPLITS`."""

# Steps by powers of the plastic number spread evenly, so that a few blocks side by side are split nearly by the shares.
_ROW_STEP, _COLUMN_STEP = 0.7548776662466927, 0.5698402909980532
_LEAST_TILES, _MOST_TILES, _BLOCKS_PER_SIDE = 3, 10, 4
# Tiles are shrunk by this, so that those that are exactly the gap apart are not taken for nearer.
_ROUNDING_M = 0.5


@dataclass(frozen=True)
class Blocks:
    """Blocks of ground, each of which belongs to one split."""

    side_m: int  # side of a block
    gap_m: int  # least distance of tiles of two splits
    seed: int  # random seed that shifts which blocks belong to which split
    shares: tuple[float, ...]  # shares of the blocks by split, in the order of `SPLITS`; they add up to 1

    def block_at(self, lon: float, lat: float) -> tuple[int, int]:
        """Row and column of the block at a place."""
        row = cell_row(lat, self.side_m)
        return row, cell_column(lon, row, self.side_m)

    def name_of(self, row: int, column: int) -> str:
        """The name of a block, which is the place of its pairs."""
        return f"{self.side_m / 1000:g}km_{row}_{column}"

    def split_of(self, row: int, column: int) -> Split:
        """The split of a block."""
        start = generator(self.seed, Purpose.BLOCKS, 0).random()
        drawn = (start + row * _ROW_STEP + column * _COLUMN_STEP) % 1
        return SPLITS[int(np.searchsorted(np.cumsum(self.shares)[:-1], drawn, side="right"))]


@dataclass(frozen=True)
class PlacedTiles:
    """Tiles of one grid that have a split."""

    crs: Any  # CRS of the grid, whose unit is the metre
    lefts: NDArray[np.float64]  # `[N]`, x of each tile's left edge
    tops: NDArray[np.float64]  # `[N]`, y of each tile's upper edge
    splits: NDArray[np.int8]  # `[N]`, positions in `SPLITS`
    tile_m: int  # side of a tile

    def outlines(self, crs: Any) -> Any:
        """The tiles as polygons `[N]` in another CRS; empty where they have no place in it."""
        xs = self.lefts[:, None] + np.array([0, self.tile_m, self.tile_m, 0])
        ys = self.tops[:, None] - np.array([0, 0, self.tile_m, self.tile_m])
        if crs != self.crs and xs.size:
            found = transform(self.crs, crs, xs.ravel().tolist(), ys.ravel().tolist())
            xs, ys = (np.array(values).reshape(xs.shape) for values in found)
        is_there = np.isfinite(xs).all(axis=1) & np.isfinite(ys).all(axis=1)
        outlines = shapely.polygons(np.where(is_there[:, None, None], np.stack([xs, ys], axis=-1), 0.0))
        return np.where(is_there, outlines, shapely.from_wkt("POLYGON EMPTY"))


@dataclass(frozen=True)
class SplitTiles:
    """What blocks mean for the tiles of a grid."""

    splits: NDArray[np.int8]  # `[rows, columns]`, positions in `SPLITS`, or `NEAR_ANOTHER`
    places: list[list[str]]  # name of each tile's block, by row and column


def split_tiles(grid: Grid, blocks: Blocks, there: Sequence[PlacedTiles] = ()) -> SplitTiles:
    """Give each tile of a grid, whose tiles lie side by side, its split.

    `there` are the tiles of scenes that were cut before.

    Raises:
        InputError: the grid's CRS is no place on earth.
    """
    tile_m = grid.tile_m
    lefts = grid.left + np.arange(0, grid.width_m, tile_m, dtype=np.float64)
    tops = grid.top - np.arange(0, grid.height_m, tile_m, dtype=np.float64)
    xs, ys = (middles.ravel() for middles in np.meshgrid(lefts + tile_m / 2, tops - tile_m / 2))
    degrees = lon_lat(grid.crs, xs.tolist(), ys.tolist())
    if degrees is None:
        raise InputError(
            "The scene's CRS is no place on earth: where its blocks lie can't be known.",
            got=grid.crs.to_string(),
            hint="its CRS is wrong, or a local grid: `rio info` shows it, `gdalwarp -t_srs EPSG:…` makes another",
        )
    where = [blocks.block_at(lon, lat) for lon, lat in zip(*degrees, strict=True)]
    of_block = {block: SPLITS.index(blocks.split_of(*block)) for block in dict.fromkeys(where)}
    shape = (len(tops), len(lefts))
    drawn = np.array([of_block[block] for block in where], np.int8).reshape(shape)
    splits, steps = drawn.copy(), -(-blocks.gap_m // tile_m)
    for number in reversed(range(len(SPLITS))):  # test first
        taken = splits == number
        splits[_near(taken, steps) & (splits >= 0) & (splits < number)] = NEAR_ANOTHER
    for others in there:
        splits[_near_others(grid, lefts, tops, splits, others, blocks.gap_m)] = NEAR_ANOTHER
    names = np.array([blocks.name_of(*block) for block in where], object).reshape(shape)
    return SplitTiles(splits, names.tolist())


def _near(flags: Flags, steps: int) -> Flags:
    """Flags `[rows, columns]`, true within some steps, diagonal ones too, of a true one."""
    found = np.pad(flags, steps)
    for axis in (0, 1):
        found = np.logical_or.reduce([np.roll(found, step, axis) for step in range(-steps, steps + 1)])
    return np.asarray(found[steps : steps + flags.shape[0], steps : steps + flags.shape[1]])


def _near_others(grid: Grid, lefts: Any, tops: Any, splits: NDArray[np.int8], others: PlacedTiles, gap_m: int) -> Flags:
    """Flags `[rows, columns]` of a grid's tiles that are nearer than the gap to others of another split."""
    xs, ys = np.meshgrid(lefts + _ROUNDING_M, tops - _ROUNDING_M)
    side = grid.tile_m - 2 * _ROUNDING_M
    boxes = shapely.box(xs, ys - side, xs + side, ys).ravel()
    old, new = shapely.STRtree(boxes).query(others.outlines(grid.crs), predicate="dwithin", distance=gap_m)
    differs = splits.ravel()[new] != others.splits[old]
    found = np.zeros(splits.size, np.bool_)
    found[new[differs]] = True
    return found.reshape(splits.shape)


def side_for(grid: Grid) -> int:
    """The side in metres of blocks for a scene: as many tiles as leave some blocks along the scene's shorter side."""
    tiles = min(grid.height_m, grid.width_m) // (_BLOCKS_PER_SIDE * grid.tile_m)
    return grid.tile_m * max(_LEAST_TILES, min(_MOST_TILES, tiles))
