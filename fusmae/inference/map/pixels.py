"""Blends a model's answers per pixel while its tiles are predicted, and stores the rows of the map that are finished.

The answers of all tiles of a scene would take a hundred times the room of its map. Therefore only the sums over the
tiles that cover unfinished rows are kept, in memory. A block of columns is made from top to bottom: after each row of
tiles, the rows above the next one are finished. Each unit is read with the tiles to the left that reach into it. When a
run continues, the rows of tiles above that reach into its first unit are predicted again. So the sums are of the same
numbers in the same order, however often a run was killed.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.inference.map.blend import axis_weight
from fusmae.inference.map.layers import Layer, bands_of
from fusmae.inference.map.progress import Work
from fusmae.inference.map.rasters import Rows
from fusmae.inference.run_tiles import answered, scene_batches
from fusmae.inference.scene.grid import Grid, Unit
from fusmae.inference.scene.reader import SceneReader
from fusmae.inference.scene.tiles import UnitView, look_side_m
from fusmae.inference.session import Session

# Largest number of batches whose answers wait to be added.
_MOST_WAITING = 2


@dataclass(frozen=True)
class PixelResult:
    """The finished cells of a unit."""

    bands: NDArray[Any]  # `[bands, rows, columns]`, pixels of the map's layers as stored, one layer after another
    look: NDArray[np.float32]  # `[1 or 3, h, w]`, the scene in these cells
    num_tiles: NDArray[np.int64]  # `[]`, number of the unit's tiles with a prediction


@dataclass(frozen=True)
class _Step:
    """A unit that is predicted."""

    unit: Unit  # with the tiles to the left that reach into it
    num_before: int  # number of these tiles
    is_wanted: bool  # whether its cells are stored; else only its tiles are needed
    is_last: bool  # whether its block of columns ends with it


class _Sums:
    """Weighted sums of the answers of the tiles that cover some rows, from the top of a row of tiles to its bottom."""

    def __init__(self, num_answers: int, num_columns: int, side: int) -> None:
        weights = axis_weight(np.arange(side) + 0.5, side)
        self._window = np.outer(weights, weights).astype(np.float32)
        self._product = np.empty((num_answers, side, side), np.float32)
        # The last one is the sum of the weights.
        self._sums = np.zeros((num_answers + 1, side, num_columns), np.float32)

    def add(self, starts: Sequence[int], tiles: NDArray[np.float32]) -> None:
        """Add tiles `[B, K, side, side]` that begin at these columns."""
        side = len(self._window)
        for start, tile in zip(starts, tiles, strict=True):
            place = self._sums[:, :, start : start + side]
            np.multiply(tile, self._window, out=self._product)
            place[:-1] += self._product
            place[-1] += self._window

    def take(self, num_rows: int) -> NDArray[np.float32]:
        """The means `[K, num_rows, columns]` of the first rows, NaN where no tile is; the rows below move up."""
        weights = self._sums[-1, :num_rows].copy()
        weights[weights == 0] = np.nan
        means = self._sums[:-1, :num_rows] / weights
        num_left = self._sums.shape[1] - num_rows
        for plane in self._sums:  # one at a time stays in a core's cache
            plane[:num_left] = plane[num_rows:]
            plane[num_left:] = 0
        return means


class _Blender:
    """Adds the answers of units, one after another, and stores their finished cells."""

    def __init__(self, grid: Grid, work: Work[PixelResult], layers: Sequence[Layer], num_answers: int) -> None:
        self._grid, self._work, self._layers, self._num_answers = grid, work, layers, num_answers
        self._sums: _Sums | None = None
        self._num_tiles = 0

    def add(self, step: _Step, columns: Sequence[int], tiles: NDArray[np.float32]) -> None:
        """Add the answers `[B, K, side, side]` of some of a step's tiles, by their numbers in the unit."""
        unit, cell_m = step.unit, self._grid.cell_m
        self._sums_of(step).add([(unit.lefts_m[column] - unit.left_m) // cell_m for column in columns], tiles)
        self._num_tiles += sum(column >= step.num_before for column in columns)

    def finish(self, step: _Step, view: UnitView) -> int | None:
        """Store the cells of a step after all of its tiles.

        Returns:
            The number of the unit's tiles with a prediction; None where its cells are not wanted.
        """
        num_rows, num_columns = view.has_data.shape
        means = self._sums_of(step).take(num_rows)
        num_tiles, self._num_tiles = self._num_tiles, 0
        if step.is_last:
            self._sums = None
        if not step.is_wanted:
            return None
        before_m = step.unit.lefts_m[step.num_before] - step.unit.left_m
        first = before_m // self._grid.cell_m
        means = means[:, :, first:num_columns]
        np.copyto(means, np.nan, where=~view.has_data[:, first:])
        look = view.look[:, :, view.look.shape[2] * before_m // step.unit.width_m :]
        self._work.save(step.unit, PixelResult(bands_of(self._layers, means), look, np.array(num_tiles)))
        return num_tiles

    def _sums_of(self, step: _Step) -> _Sums:
        if self._sums is None:
            side = self._grid.tile_m // self._grid.cell_m
            num_columns = (step.unit.lefts_m[-1] - step.unit.left_m) // self._grid.cell_m + side
            self._sums = _Sums(self._num_answers, num_columns, side)
        return self._sums


def predict_pixels(
    session: Session,
    reader: SceneReader,
    work: Work[PixelResult],
    layers: Sequence[Layer],
    advance: Callable[[int], None],
) -> None:
    """Predict and store the units that are not done; `advance` is called with the number of tiles of each."""
    grid = reader.grid
    steps = {step.unit.number: step for step in _steps(grid, work)}
    blender = _Blender(grid, work, layers, session.require_task(session.path.name).num_outputs)
    waiting: deque[Future[int | None]] = deque()

    def wait_for_one() -> None:
        if (num_tiles := waiting.popleft().result()) is not None:
            advance(num_tiles)

    with (
        ThreadPoolExecutor(1) as pool,
        scene_batches(reader, [step.unit for step in steps.values()], look_side_m(grid, reader.inputs)) as items,
    ):
        for item, tiles in answered(session, items, session.output):
            step = steps[item.unit.number]
            if isinstance(item, UnitView):
                waiting.append(pool.submit(blender.finish, step, item))
            else:
                waiting.append(pool.submit(blender.add, step, item.columns, tiles))
            while len(waiting) > _MOST_WAITING:
                wait_for_one()
        while waiting:
            wait_for_one()


def finished_rows(grid: Grid, work: Work[PixelResult]) -> Iterator[Rows]:
    """Yield the map's rows from top to bottom, from every unit's stored result."""
    units = sorted(grid.units(), key=lambda unit: (unit.top_m, unit.left_m))
    for top_m, row in groupby(units, key=lambda unit: unit.top_m):
        results = [work.load(unit) for unit in row]
        bands, look = (
            np.concatenate([getattr(result, name) for result in results], axis=2) for name in ("bands", "look")
        )
        yield Rows(top_m // grid.cell_m, bands, look)


def _steps(grid: Grid, work: Work[PixelResult]) -> Iterator[_Step]:
    """What is predicted, so that each unit that is not done has all tiles that reach into it."""
    for _, units in groupby(grid.units(), key=lambda unit: unit.left_m):
        column = list(units)
        is_done = [work.is_done(unit) for unit in column]
        if all(is_done):
            continue
        first = column[is_done.index(False)]
        needed = [unit for unit in column if unit.top_m + grid.tile_m > first.top_m]
        for unit in needed:
            before = tuple(left for left in grid.tile_lefts_m if unit.left_m - grid.tile_m < left < unit.left_m)
            wider = unit.left_m - before[0] if before else 0
            with_before = replace(unit, lefts_m=before + unit.lefts_m, width_m=unit.width_m + wider)
            yield _Step(with_before, len(before), not work.is_done(unit), unit is column[-1])
