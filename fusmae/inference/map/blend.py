"""Blends the answers of overlapping tiles into cells.

The weight is a squared cosine that is 1 at a tile's centre and 0 at its edge.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.inference.map.layers import Answers
from fusmae.inference.map.progress import TileResult, Work
from fusmae.inference.scene.grid import Grid, Unit

_LEAST_WEIGHT = 1e-12


@dataclass(frozen=True)
class Blended:
    """Some rows of a map's cells."""

    first: int  # number of the first row, from 0
    answers: Answers  # `[K, rows, columns]`; NaN where there is no data
    # `[1 or 3, h, w]`, the scene in these rows, with one or more pixels along a cell's side; NaN where there is no
    # data.
    look: NDArray[np.float32]


def blended(grid: Grid, work: Work[TileResult]) -> Iterator[Blended]:
    """Yield the map's rows from top to bottom, from every unit's stored result; memory holds a few rows of tiles."""
    units: dict[int, list[Unit]] = defaultdict(list)
    for unit in grid.units():
        units[unit.top_m].append(unit)
    tops, across = grid.tile_tops_m, _axis_weights(grid.tile_lefts_m, grid.shape[1], grid)
    down = _axis_weights(tops, grid.shape[0], grid)
    known: dict[int, NDArray[np.float64]] = {}
    for top_m in tops:
        first = top_m // grid.cell_m
        last = first + units[top_m][0].height_m // grid.cell_m
        tiles, weights = (part[first:last] for part in down)
        needed = sorted(set(tiles[weights > 0].tolist()))
        known = {row: known[row] if row in known else _row_of_tiles(units[tops[row]], work, *across) for row in needed}
        total = np.zeros((last - first, *known[needed[0]].shape))
        for place in range(tiles.shape[1]):
            for row in range(last - first):
                if weights[row, place]:
                    total[row] += weights[row, place] * known[tiles[row, place]]
        results = [work.load(unit) for unit in units[top_m]]
        weight = total[..., -1]
        is_known = np.concatenate([result.has_data for result in results], axis=1) & (weight > _LEAST_WEIGHT)
        mean = total[..., :-1] / np.where(is_known, weight, 1.0)[..., None]
        answers = np.moveaxis(np.where(is_known[..., None], mean, np.nan), -1, 0)
        yield Blended(first, answers, np.concatenate([result.look for result in results], axis=2))


def axis_weight(offset: NDArray[np.floating[Any]], side: float) -> NDArray[np.float64]:
    """Weight along one axis of a tile, at a distance from its edge: 1 at the centre, 0 at both edges."""
    weight: NDArray[np.float64] = np.sin(np.pi * offset / side) ** 2
    return weight


def _axis_weights(starts_m: Sequence[int], num_cells: int, grid: Grid) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Numbers and weights of the tiles that cover each cell along one axis: both `[cells, most tiles over a cell]`."""
    starts = np.array(starts_m)
    centres = (np.arange(num_cells) + 0.5) * grid.cell_m
    first = np.searchsorted(starts, centres - grid.tile_m, side="right")
    stop = np.searchsorted(starts, centres, side="left")
    tiles = first[:, None] + np.arange((stop - first).max())
    is_over = tiles < stop[:, None]
    tiles = np.minimum(tiles, len(starts) - 1)
    weights = axis_weight(centres[:, None] - starts[tiles], grid.tile_m)
    return tiles, np.where(is_over, weights, 0.0)


def _row_of_tiles(
    units: Sequence[Unit], work: Work[TileResult], tiles: NDArray[np.int64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """A row of tiles blended along the row: `[columns, K + 1]`, weighted answers and the sum of the weights."""
    found = np.concatenate([work.load_array(unit, "answers") for unit in units]).astype(np.float64)
    is_known = np.isfinite(found).all(axis=1, keepdims=True)
    values = np.concatenate([np.where(is_known, found, 0.0), is_known], axis=1)
    row = np.zeros((len(tiles), values.shape[1]))
    for place in range(tiles.shape[1]):
        row += weights[:, place, None] * values[tiles[:, place]]
    return row
