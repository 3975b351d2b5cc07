"""Reads bands whose files have the same pixels (CRS, transform and size: a lattice) onto the grid of the map."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fusmae.inference.scene.bands import unreadable
from fusmae.inference.scene.grid import Grid
from fusmae.inference.scene.nodata import ALL_ZERO, PIXELS
from fusmae.modalities import Units
from fusmae.rasters.geometry import box_of, is_turned, north_up, north_up_transform
from fusmae.rasters.raster_file import Flags, Floats, Statement, read_bands

# Where the target is coarser than the source by more than this factor, a pixel is the mean of all source pixels in it,
# else it is interpolated at its centre.
_MEAN_FROM = 1.5
# Number of a file's pixels that are warped at once; it bounds memory where they are much finer than the grid's.
_MAX_NATIVE_PIXELS = 2**24


@dataclass(frozen=True)
class Target:
    """A window of the grid in pixels of one size."""

    grid: Grid
    gsd_m: int
    row: int
    column: int
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    @property
    def transform(self) -> Any:
        """Affine transform of its pixels."""
        from rasterio.transform import from_origin

        left, top = self.grid.left + self.column * self.gsd_m, self.grid.top - self.row * self.gsd_m
        return from_origin(left, top, self.gsd_m, self.gsd_m)

    def halves(self) -> "tuple[Target, Target]":
        """Its left and its right half."""
        half = self.width // 2
        return (
            Target(self.grid, self.gsd_m, self.row, self.column, self.height, half),
            Target(self.grid, self.gsd_m, self.row, self.column + half, self.height, self.width - half),
        )


@dataclass(frozen=True)
class _Block:
    """A window of a lattice's own pixels, counted from its top left; its outer `margin` pixels are for warping only."""

    row: int
    column: int
    height: int
    width: int
    margin: int = 0


@dataclass(frozen=True)
class OpenFile:
    """One file of a lattice.

    Attributes:
        path: path of the file, for errors.
        dataset: open dataset of rasterio.
        statement: what the file states about its bands.
        names: names of its bands, in the statement's order.
    """

    path: Any
    dataset: Any
    statement: Statement
    names: tuple[str, ...]


class Lattice:
    """Bands of one modality whose files have the same pixels, stored in any order of rows and columns."""

    def __init__(self, files: Sequence[OpenFile], units: Units, grid: Grid) -> None:
        self._files, self._units, self._grid = files, units, grid
        self.names = tuple(name for file in files for name in file.names)
        dataset = files[0].dataset
        self._crs, self._size = dataset.crs, (dataset.height, dataset.width)
        self._is_in_crs = self._crs == grid.crs
        self._stored = dataset.transform
        self._transform = north_up_transform(dataset)
        left, bottom, right, top = _bounds_on(grid, dataset)
        self._gsd_m = min((right - left) / dataset.width, (top - bottom) / dataset.height)
        self.is_zero_nodata = True

    @property
    def nodata(self) -> list[float | None]:
        """The nodata value that the files state, by band."""
        return [value for file in self._files for value in file.statement.nodata]

    def read(self, names: Sequence[str], target: Target, others: "Sequence[Lattice]", tally: Counter[str]) -> Floats:
        """Read bands onto the grid.

        Args:
            names: names of the bands.
            target: window of the grid.
            others: the modality's other lattices: a pixel that is 0 in this lattice may have data in them.
            tally: counts of pixels without data, in this lattice's own pixels; they are added to.

        Returns:
            `[C, h, w]`, NaN where a band has no data.
        """
        block = self._block(target)
        if block is None:
            tally[PIXELS] += target.height * target.width
            return np.full((len(names), *target.shape), np.nan, np.float32)
        if block.height * block.width > _MAX_NATIVE_PIXELS and target.width > 1 and block.margin:
            parts = [self.read(names, half, others, tally) for half in target.halves()]
            return np.concatenate(parts, axis=2)
        values = self._values(names, block, tally)
        zero = self._all_zero(values, names, block)
        if zero is None:
            return self._onto(values, block, target, self._resampling(target))
        values[:, zero] = np.nan
        pixels = self._onto(values, block, target, self._resampling(target))
        is_zero = self._onto(zero[None].astype(np.float32), block, target, _nearest())[0] > 0
        for other in others:
            is_data = is_zero & other._has_values(target)
            pixels[:, is_data] = 0
            is_zero &= ~is_data
        tally[ALL_ZERO] += int(is_zero.sum())
        return pixels

    def _values(self, names: Sequence[str], block: _Block, tally: Counter[str]) -> Floats:
        """A block's pixels `[C, h, w]` in the modality's units, NaN where a band has no data."""
        from rasterio.errors import RasterioError

        values: Floats | None = None
        inner = _inner(block)
        reasons: dict[str, Flags] = {}
        for file in self._files:
            places = [place for place, name in enumerate(names) if name in file.names]
            if not places:
                continue
            chosen = _chosen(file.statement, [file.names.index(names[place]) for place in places])
            try:
                bands = read_bands(file.dataset, chosen, self._window(block))
            except RasterioError as error:
                raise unreadable(file.path, error) from error
            part = np.ascontiguousarray(north_up(bands.in_units(self._units), self._stored))
            if places == list(range(len(names))):
                values = part
            else:
                values = np.empty((len(names), *part.shape[1:]), np.float32) if values is None else values
                values[places] = part
            for reason, flags in bands.why.items():
                here = np.asarray(north_up(flags, self._stored)[inner].any(axis=0))
                reasons[reason] = reasons[reason] | here if reason in reasons else here
        if values is None:
            raise ValueError(names)
        shape = values[inner].shape[1:]
        tally[PIXELS] += math.prod(shape)
        counted = np.zeros(shape, np.bool_)
        for reason, here in reasons.items():
            tally[reason] += int((here & ~counted).sum())
            counted |= here
        return values

    def _all_zero(self, values: Floats, names: Sequence[str], block: _Block) -> Flags | None:
        """`[h, w]`, true where every band of the lattice is 0; None if there is no such pixel, or 0 is a value."""
        if not self.is_zero_nodata or not has_all(values, 0):
            return None
        zero: Flags = (values == 0).all(axis=0)
        rest = [name for name in self.names if name not in names]
        if rest:
            found = self._values(rest, block, Counter())
            zero &= ((found == 0) | np.isnan(found)).all(axis=0)
        return zero if zero.any() else None

    def _has_values(self, target: Target) -> Flags:
        """`[h, w]`, true where some band has data other than 0 in the target's pixel or at its centre."""
        from rasterio.enums import Resampling

        block = self._block(target)
        if block is None:
            return np.zeros(target.shape, np.bool_)
        values = self._values(self.names, block, Counter())
        is_data = (np.isfinite(values) & (values != 0)).any(axis=0).astype(np.float32)[None]
        is_finer = target.gsd_m > self._gsd_m * _MEAN_FROM
        found = self._onto(is_data, block, target, Resampling.max if is_finer else _nearest())
        return np.asarray(found[0] > 0)

    def _block(self, target: Target) -> _Block | None:
        """The lattice's pixels that a target needs; None if there are none."""
        if (place := self._place(target)) is not None:
            row, column, margin = *place, 0
            bottom, right = row + target.height, column + target.width
        else:
            row, column, bottom, right = self._footprint(target)
            margin = 2 + math.ceil(2 * max(1.0, target.gsd_m / self._gsd_m))
        row, column = max(0, row - margin), max(0, column - margin)
        bottom, right = min(self._size[0], bottom + margin), min(self._size[1], right + margin)
        if bottom <= row or right <= column:
            return None
        return _Block(row, column, bottom - row, right - column, margin)

    def _place(self, target: Target) -> tuple[int, int] | None:
        """Row and column of the lattice at which a target begins; None if its pixels are not the grid's."""
        own, wanted, gsd_m = self._transform, target.transform, target.gsd_m
        if not self._is_in_crs or (own.a, own.b, own.d, own.e) != (gsd_m, 0, 0, -gsd_m):
            return None
        row, column = (own.f - wanted.f) / gsd_m, (wanted.c - own.c) / gsd_m
        return (round(row), round(column)) if row == round(row) and column == round(column) else None

    def _footprint(self, target: Target) -> tuple[int, int, int, int]:
        """First row and column of the lattice under a target, and the row and column after the last."""
        from rasterio.warp import transform

        height, width = target.shape
        rows, columns = np.linspace(0, height, 22), np.linspace(0, width, 22)
        edge = [(0, c) for c in columns] + [(height, c) for c in columns]
        edge += [(r, 0) for r in rows] + [(r, width) for r in rows]
        xs, ys = _applied(target.transform, *np.array([(column, row) for row, column in edge]).T)
        own_xs, own_ys = (np.array(values) for values in transform(self._grid.crs, self._crs, xs, ys))
        if self._crs.is_geographic:
            # Beyond 180 degrees PROJ returns longitudes on the other side of the world.
            centre, _ = _applied(self._transform, self._size[1] / 2, self._size[0] / 2)
            own_xs = (own_xs - centre + 180) % 360 - 180 + centre
        is_there = np.isfinite(own_xs) & np.isfinite(own_ys)
        if not is_there.any():
            return 0, 0, 0, 0
        found_columns, found_rows = _applied(~self._transform, own_xs[is_there], own_ys[is_there])
        return (
            math.floor(found_rows.min()),
            math.floor(found_columns.min()),
            math.ceil(found_rows.max()),
            math.ceil(found_columns.max()),
        )

    def _window(self, block: _Block) -> Any:
        """A block's window in the file, whose rows and columns may run in the other direction."""
        from rasterio.windows import Window

        height, width = self._size
        is_turned_round = not is_turned(self._stored)
        row = height - block.row - block.height if is_turned_round and self._stored.e > 0 else block.row
        column = width - block.column - block.width if is_turned_round and self._stored.a < 0 else block.column
        return Window(column, row, block.width, block.height)

    def _resampling(self, target: Target) -> Any:
        from rasterio.enums import Resampling

        return Resampling.average if target.gsd_m > _MEAN_FROM * self._gsd_m else Resampling.bilinear

    def _onto(self, values: Floats, block: _Block, target: Target, resampling: Any) -> Floats:
        """A block's values `[C, h, w]` on the target's pixels, NaN beyond the block."""
        from rasterio.warp import reproject

        if (place := self._place(target)) is not None:
            if values.shape[1:] == target.shape:
                return values
            pixels = np.full((len(values), *target.shape), np.nan, np.float32)
            row, column = block.row - place[0], block.column - place[1]
            pixels[:, row : row + block.height, column : column + block.width] = values
            return pixels
        pixels = np.full((len(values), *target.shape), np.nan, np.float32)
        reproject(
            values,
            pixels,
            src_transform=_moved(self._transform, block.column, block.row),
            src_crs=self._crs,
            src_nodata=np.nan,
            dst_transform=target.transform,
            dst_crs=self._grid.crs,
            dst_nodata=np.nan,
            resampling=resampling,
            # Otherwise GDAL takes a pixel for empty only if all bands are, and mixes a band's nodata into its data.
            UNIFIED_SRC_NODATA="NO",
        )
        return pixels


def has_all(values: Floats, number: float) -> bool:
    """Whether some pixel has this number in all bands; in most cases the first band is enough to decide."""
    return bool((values[0] == number).any()) and bool((values == number).all(axis=0).any())


def _chosen(statement: Statement, places: Sequence[int]) -> Statement:
    """A statement reduced to some of its bands."""
    return replace(
        statement,
        indexes=tuple(statement.indexes[place] for place in places),
        nodata=tuple(statement.nodata[place] for place in places),
        factors=tuple(statement.factors[place] for place in places),
        offsets=tuple(statement.offsets[place] for place in places),
    )


def _inner(block: _Block) -> tuple[slice, slice, slice]:
    margin = min(block.margin, (block.height - 1) // 2, (block.width - 1) // 2)
    return slice(None), slice(margin, block.height - margin), slice(margin, block.width - margin)


def _applied(transform: Any, columns: Any, rows: Any) -> tuple[Any, Any]:
    """Coordinates x and y of points, each an array or a number."""
    return (
        transform.a * columns + transform.b * rows + transform.c,
        transform.d * columns + transform.e * rows + transform.f,
    )


def _moved(transform: Any, column: int, row: int) -> Any:
    """The transform of a window that begins at this column and row."""
    from rasterio import Affine

    x, y = _applied(transform, column, row)
    return Affine(transform.a, transform.b, x, transform.d, transform.e, y)


def _nearest() -> Any:
    from rasterio.enums import Resampling

    return Resampling.nearest


def _bounds_on(grid: Grid, dataset: Any) -> tuple[float, float, float, float]:
    from rasterio.warp import transform_bounds

    found: tuple[float, float, float, float] = transform_bounds(dataset.crs, grid.crs, *box_of(dataset))
    return found
