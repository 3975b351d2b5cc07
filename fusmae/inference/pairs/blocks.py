"""Splits of tiles by blocks of ground, so that no tile is near one of another split, whatever scenes they come from.

Blocks are cells of the earth, and the split of a block depends on its place and the seed alone: scenes of other dates,
and of neighbouring UTM zones, that are cut later agree with those that were cut before. A tile gets a split if all
ground within half the gap of it lies in blocks of that split; so tiles of two splits are at least the gap apart.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusmae.data.index import SPLITS, Split
from fusmae.data.randomness import Purpose, generator
from fusmae.errors import InputError
from fusmae.inference.scene.grid import Grid, Unit
from fusmae.rasters.geometry import cell_column, cell_row, lon_lat

# Steps by powers of the plastic number spread evenly, so that a few blocks side by side are split nearly by the shares.
_ROW_STEP, _COLUMN_STEP = 0.7548776662466927, 0.5698402909980532
_LEAST_TILES, _MOST_TILES, _BLOCKS_PER_SIDE = 3, 10, 6


@dataclass(frozen=True)
class Blocks:
    """Blocks of ground, each of which belongs to one split."""

    side_m: int  # side of a block
    gap_m: int  # least distance of tiles of two splits
    seed: int  # random seed that shifts which blocks belong to which split
    shares: tuple[float, ...]  # shares of the blocks by split, in the order of `SPLITS`; they add up to 1

    def split_of(self, row: int, column: int) -> Split:
        """The split of a block."""
        start = generator(self.seed, Purpose.BLOCKS, 0).random()
        drawn = (start + row * _ROW_STEP + column * _COLUMN_STEP) % 1
        ends = np.cumsum(self.shares)[:-1]
        return SPLITS[int(np.searchsorted(ends, drawn, side="right"))]

    def name_of(self, lon: float, lat: float) -> str:
        """The name of the block at a place, which is the place of the pairs whose centres it has."""
        row = cell_row(lat, self.side_m)
        return f"{self.side_m / 1000:g}km_{row}_{cell_column(lon, row, self.side_m)}"

    def splits_of(self, grid: Grid, unit: Unit) -> list[Split | None]:
        """The split of each of a unit's tiles; None for a tile that is too near to blocks of several splits."""
        half_m, side_m = self.gap_m / 2, grid.tile_m + self.gap_m
        lefts = grid.left + np.array(unit.lefts_m, np.float64) - half_m
        top = grid.top - unit.top_m + half_m
        # Corners and middles of the sides: in degrees the sides are curved.
        steps = np.array([(0, 0), (1, 0), (2, 0), (0, 1), (2, 1), (0, 2), (1, 2), (2, 2)]) * side_m / 2
        xs, ys = lefts[:, None] + steps[:, 0], np.broadcast_to(top - steps[:, 1], (len(lefts), len(steps)))
        lons, lats = _degrees(grid.crs, xs.ravel().tolist(), ys.ravel().tolist())
        places = zip(lons.reshape(xs.shape), lats.reshape(xs.shape), strict=True)
        return [self._common_split(*place) for place in places]

    def _common_split(self, lons: Any, lats: Any) -> Split | None:
        splits = {self.split_of(row, column) for row, column in self._touched(lons, lats)}
        return splits.pop() if len(splits) == 1 else None

    def _touched(self, lons: Any, lats: Any) -> Iterator[tuple[int, int]]:
        """Row and column of each block in the box around points."""
        # Across the 180th meridian the box has a part on either side.
        ends = [(lons.min(), lons.max())]
        if ends[0][1] - ends[0][0] > 180:
            ends = [(lons[lons > 0].min(), 180.0), (-180.0, lons[lons <= 0].max())]
        for row in range(cell_row(lats.min(), self.side_m), cell_row(lats.max(), self.side_m) + 1):
            for west, east in ends:
                first, last = (cell_column(lon, row, self.side_m) for lon in (west, east))
                yield from ((row, column) for column in range(first, last + 1))


def tile_centres(grid: Grid, unit: Unit) -> list[tuple[float, float]]:
    """Longitude and latitude of the centre of each of a unit's tiles."""
    half_m = grid.tile_m / 2
    xs = [grid.left + left_m + half_m for left_m in unit.lefts_m]
    lons, lats = _degrees(grid.crs, xs, [grid.top - unit.top_m - half_m] * len(xs))
    return list(zip(lons.tolist(), lats.tolist(), strict=True))


def side_for(grid: Grid) -> int:
    """The side in metres of blocks for a scene: as many tiles as leave some blocks along the scene's shorter side."""
    tiles = min(grid.height_m, grid.width_m) // (_BLOCKS_PER_SIDE * grid.tile_m)
    return grid.tile_m * max(_LEAST_TILES, min(_MOST_TILES, tiles))


def require_room(blocks: Blocks, tile_m: int) -> None:
    """Refuse blocks into which no tile fits with its gap.

    Raises:
        InputError: names the least side.
    """
    if blocks.side_m <= tile_m + blocks.gap_m:
        raise InputError(
            "No tile fits into a block with its gap.",
            got=f"blocks of {blocks.side_m} m, tiles of {tile_m} m, a gap of {blocks.gap_m} m",
            expected=f"blocks of more than {tile_m + blocks.gap_m} m; several times as much leaves more tiles",
            hint=f"--block {math.ceil(3 * (tile_m + blocks.gap_m) / 100) * 100}, or a smaller --gap",
        )


def _degrees(crs: Any, xs: Sequence[float], ys: Sequence[float]) -> tuple[Any, Any]:
    found = lon_lat(crs, xs, ys)
    if found is None:
        raise InputError(
            "The scene's CRS is no place on earth: where its blocks lie can't be known.",
            got=crs.to_string(),
            hint="its CRS is wrong, or a local grid: `rio info` shows it, `gdalwarp -t_srs EPSG:…` makes another",
        )
    lons, lats = (np.array(values) for values in found)
    return lons, lats
