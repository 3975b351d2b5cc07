"""The labels of a scene's tiles, whatever their file: which classes a tile has, its value, and its map."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fusmae.config.task import Task
from fusmae.data.pixels import NO_CLASS
from fusmae.inference.pairs.label_file import LabelFile, absent_labels
from fusmae.inference.pairs.raster_labels import LabelValues, open_class_raster
from fusmae.inference.pairs.shape_labels import open_shapes
from fusmae.inference.scene.files import ENDINGS
from fusmae.inference.scene.grid import Grid, Unit


class Labels(Protocol):
    """Classes on a grid of tiles."""

    names: tuple[str, ...]  # names of the classes, in the order of the columns of `shares`

    def shares(self, unit: Unit) -> NDArray[np.float64]:
        """The share `[tiles, K]` of each of a unit's tiles that a class covers; 1 where a point of the class lies."""
        ...

    def positions(self, unit: Unit) -> NDArray[np.uint8]:
        """The class of each pixel of a unit's tiles side by side `[h, w]`, as positions in `names`, or `NO_CLASS`.

        Where shapes overlap, the class that comes first in `names` counts.
        """
        ...

    def notes(self) -> tuple[str, ...]:
        """Sentences on labels that were not used."""
        ...


def open_labels(file: LabelFile, grid: Grid, gsd_m: int) -> Labels:
    """Open labels that lie on a grid, in any CRS; shares are counted in pixels of `gsd_m`, whose centres are covered.

    Raises:
        InputError: the file can't be read, has no CRS, lies elsewhere, or its classes are not known.
    """
    if not file.path.exists():
        raise absent_labels(file.path)
    is_raster = file.path.suffix.lower() in ENDINGS
    return open_class_raster(file, grid, gsd_m) if is_raster else open_shapes(file, grid, gsd_m)


@dataclass(frozen=True)
class TileLabels:
    """The labels of the tiles of a unit."""

    is_label: NDArray[np.bool_]  # `[tiles, K]`, whether a class of the labels' names is a label of a tile
    values: NDArray[np.float64]  # `[tiles]`, value of a tile; NaN where there is none, or labels are classes
    maps: NDArray[Any] | None = None  # `[h, w]` of all tiles side by side at 10 m, as map files have it; None without

    @property
    def is_known(self) -> NDArray[np.bool_]:
        """Whether a tile has a label, `[tiles]`."""
        return np.asarray(self.is_label.any(axis=1) | np.isfinite(self.values))


def label_tiles(labels: Labels | LabelValues | None, unit: Unit, task: Task, min_share: float) -> TileLabels:
    """Return the labels of a unit's tiles.

    Args:
        labels: labels on the grid of the unit; None for tiles without any.
        unit: unit of the grid.
        task: what the labels are; its classes number the pixels of maps.
        min_share: least share of a tile that a class, or pixels with a value, must cover to be a label of the tile.
    """
    count = len(unit.lefts_m)
    without = np.full(count, np.nan)
    if labels is None:
        return TileLabels(np.zeros((count, 0), np.bool_), without)
    if isinstance(labels, LabelValues):
        maps = labels.values(unit)
        tiles = _by_tile(maps, count)
        is_known = np.isfinite(tiles).mean(axis=1) >= (0 if task.is_dense else min_share)
        is_known &= np.isfinite(tiles).any(axis=1)
        values = without.copy()
        values[is_known] = np.nanmean(tiles[is_known], axis=1, dtype=np.float64)
        return TileLabels(np.zeros((count, 0), np.bool_), values, maps if task.is_dense else None)
    if task.is_dense:
        positions = labels.positions(unit)
        table = np.full(NO_CLASS + 1, NO_CLASS, np.uint8)
        table[: len(labels.names)] = [task.classes.index(name) for name in labels.names]
        found = [np.unique(tile) for tile in _by_tile(positions, count)]
        is_label = np.array([np.isin(np.arange(len(labels.names)), numbers) for numbers in found])
        return TileLabels(is_label.reshape(count, len(labels.names)), without, table[positions])
    shares = labels.shares(unit)
    is_label = (shares > 0) & (shares >= min_share)
    if task.kind == "multiclass" and shares.size:
        is_label &= np.arange(shares.shape[1]) == shares.argmax(axis=1)[:, None]
    return TileLabels(is_label, without)


def map_look(maps: NDArray[Any] | None, height: int, width: int) -> NDArray[np.float32]:
    """Return every so many pixels of maps `[h, w]` as a picture of a size, NaN where there is no class or value."""
    if maps is None:
        return np.zeros((0, 0), np.float32)
    rows, columns = (_middles(side, size) for side, size in zip(maps.shape, (height, width), strict=True))
    found = maps[np.ix_(rows, columns)]
    return np.where((found == NO_CLASS) & (maps.dtype.kind != "f"), np.nan, found).astype(np.float32)


def _middles(side: int, size: int) -> Sequence[int]:
    return [int(number) for number in (np.arange(size) + 0.5) * side / size]


def _by_tile(pixels: NDArray[Any], count: int) -> NDArray[Any]:
    """Pixels `[h, count * w]` of tiles side by side as `[count, h * w]`."""
    side_px = len(pixels)
    return pixels.reshape(side_px, count, -1).swapaxes(0, 1).reshape(count, -1)
