"""Reads scenes of any CRS, pixel size and order of files onto the grid, as the arrays that a model takes.

Bands of a modality whose files have the same pixels (CRS, transform and size) are a lattice, which is read at once.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import rasterio
from rasterio import Affine
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.warp import reproject, transform, transform_bounds
from rasterio.windows import Window

from fusmae.errors import InputError
from fusmae.inference.scene.bands import cause_of, open_raster, unreadable
from fusmae.inference.scene.grid import Grid
from fusmae.inference.scene.scene import Scene
from fusmae.inference.scene.stac_assets import MEND, ItemAsset
from fusmae.modalities import ModalityInput, Units
from fusmae.rasters.geometry import box_of, north_up, steps_north_up
from fusmae.rasters.raster_file import (
    MASKED,
    NOT_FINITE,
    STATED,
    Flags,
    Floats,
    nowhere_but,
    read_bands,
    require_possible,
    sample_windows,
    statement_of,
    zero_is_nodata,
)
from fusmae.rasters.s1_units import require_linear, to_decibels

# Size of GDAL's cache of blocks. It holds a row of blocks in every band of Sentinel-2, so that each is read once.
_CACHE_BYTES = 256 * 2**20
# Where the target is coarser than the source by more than this factor, a pixel is the mean of all source pixels in it,
# else it is interpolated at its centre.
_MEAN_FROM = 1.5
# Number of a file's pixels that are warped at once; it bounds memory where they are much finer than the grid's.
_MAX_NATIVE_PIXELS = 2**24
# What is counted of an input's pixels: all that were read, and those to which a finding applies.
_PIXELS = "pixels"
_ALL_ZERO = "0 in all bands"
_ALL_ONE = "1 in all bands"
_SOME_BANDS = "without data in some bands only"
_REASONS = (STATED, MASKED, NOT_FINITE, _ALL_ZERO)
_MAX_SHARE_OF_SOME_BANDS = 0.01


@dataclass(frozen=True)
class _Target:
    """A window of the grid in pixels of one size."""

    grid: Grid
    gsd_m: int
    row: int
    column: int
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.height, self.width

    @property
    def transform(self) -> Any:
        return self.grid.transform(self.gsd_m) * Affine.translation(self.column, self.row)

    def halves(self) -> "tuple[_Target, _Target]":
        half = self.width // 2
        return replace(self, width=half), replace(self, column=self.column + half, width=self.width - half)


@dataclass(frozen=True)
class _Block:
    """A window of a lattice's own pixels, counted from its top left; its outer `margin` pixels are for warping only."""

    row: int
    column: int
    height: int
    width: int
    margin: int

    @property
    def inner(self) -> tuple[slice, slice, slice]:
        """Slices of pixels `[C, h, w]` that leave out the margin."""
        margin = min(self.margin, (self.height - 1) // 2, (self.width - 1) // 2)
        return slice(None), slice(margin, self.height - margin), slice(margin, self.width - margin)


class _Lattice:
    """Bands of one modality whose files have the same pixels, stored in any order of rows and columns.

    `files` are rasters, each with its open dataset of rasterio and the number of each band, from 1, by the band's name.
    `is_zero_nodata` is whether a pixel that is 0 in all bands of the modality has no data.
    """

    def __init__(
        self,
        files: Sequence[tuple[Path | ItemAsset, Any, dict[str, int]]],
        units: Units,
        grid: Grid,
        is_zero_nodata: bool,
    ) -> None:
        self._files, self._units, self._grid, self._is_zero_nodata = files, units, grid, is_zero_nodata
        self.names = tuple(name for *_, indexes in files for name in indexes)
        _, dataset, _ = files[0]
        self._crs, self._height, self._width = dataset.crs, dataset.height, dataset.width
        self._is_in_crs = self._crs == grid.crs
        self._stored = dataset.transform
        self._down, self._right = steps_north_up(self._stored)
        corner = (self._width if self._right < 0 else 0, self._height if self._down < 0 else 0)
        self._transform = self._stored * Affine.translation(*corner) * Affine.scale(self._right, self._down)
        left, bottom, right, top = transform_bounds(self._crs, grid.crs, *box_of(dataset))
        self._gsd_m: float = min((right - left) / self._width, (top - bottom) / self._height)

    def read(self, names: Sequence[str], target: _Target, others: "Sequence[_Lattice]", tally: Counter[str]) -> Floats:
        """Read bands onto a window of the grid: `[C, h, w]`, NaN where a band has no data.

        A pixel that is 0 in this lattice may have data in the modality's other ones. Pixels without data, counted in
        this lattice's own pixels, are added to `tally`.
        """
        block = self._block(target)
        if block is None:
            tally[_PIXELS] += target.height * target.width
            return np.full((len(names), *target.shape), np.nan, np.float32)
        if block.height * block.width > _MAX_NATIVE_PIXELS and target.width > 1 and block.margin:
            return np.concatenate([self.read(names, half, others, tally) for half in target.halves()], axis=2)
        values = self._values(names, block, tally)
        resampling = Resampling.average if self._is_finer_than(target) else Resampling.bilinear
        zero = self._all_zero(values, names, block)
        if zero is None:
            return self._onto(values, block, target, resampling)
        values[:, zero] = np.nan
        pixels = self._onto(values, block, target, resampling)
        is_zero = self._onto(zero[None].astype(np.float32), block, target, Resampling.nearest)[0] > 0
        for other in others:
            is_data = is_zero & other._has_values(target)
            pixels[:, is_data] = 0
            is_zero &= ~is_data
        tally[_ALL_ZERO] += int(is_zero.sum())
        return pixels

    def _is_finer_than(self, target: _Target) -> bool:
        return target.gsd_m > _MEAN_FROM * self._gsd_m

    def _values(self, names: Sequence[str], block: _Block, tally: Counter[str]) -> Floats:
        """A block's pixels `[C, h, w]` in the modality's units, NaN where a band has no data."""
        # The file's rows and columns may run in the other direction.
        row = self._height - block.row - block.height if self._down < 0 else block.row
        column = self._width - block.column - block.width if self._right < 0 else block.column
        window = Window(column, row, block.width, block.height)
        found: dict[str, Floats] = {}
        reasons: dict[str, Any] = {}
        for path, dataset, indexes in self._files:
            chosen = {name: index for name, index in indexes.items() if name in names}
            if not chosen:
                continue
            statement = statement_of(path, dataset, self._units, tuple(chosen.values()))
            try:
                bands = read_bands(dataset, statement, window)
            except RasterioError as error:
                raise unreadable(path, error) from cause_of(path, error)
            found.update(zip(chosen, north_up(bands.in_units(self._units), self._stored), strict=True))
            for reason, flags in bands.why.items():
                reasons[reason] = reasons.get(reason, False) | north_up(flags, self._stored)[block.inner].any(axis=0)
        counted = np.zeros((block.height, block.width), np.bool_)[block.inner[1:]]
        tally[_PIXELS] += counted.size
        for reason, flags in reasons.items():
            tally[reason] += int((flags & ~counted).sum())
            counted |= flags
        return np.stack([found[name] for name in names])

    def _all_zero(self, values: Floats, names: Sequence[str], block: _Block) -> Flags | None:
        """`[h, w]`, true where every band of the lattice is 0; None if there is no such pixel, or 0 is a value."""
        if not self._is_zero_nodata or not _has_all(values, 0):
            return None
        zero: Flags = (values == 0).all(axis=0)
        if rest := [name for name in self.names if name not in names]:
            found = self._values(rest, block, Counter())
            zero &= ((found == 0) | np.isnan(found)).all(axis=0)
        return zero if zero.any() else None

    def _has_values(self, target: _Target) -> Flags:
        """`[h, w]`, true where some band has data other than 0 in the target's pixel or at its centre."""
        block = self._block(target)
        if block is None:
            return np.zeros(target.shape, np.bool_)
        values = self._values(self.names, block, Counter())
        is_data = (np.isfinite(values) & (values != 0)).any(axis=0).astype(np.float32)[None]
        resampling = Resampling.max if self._is_finer_than(target) else Resampling.nearest
        return np.asarray(self._onto(is_data, block, target, resampling)[0] > 0)

    def _block(self, target: _Target) -> _Block | None:
        """The lattice's pixels that a target needs; None if there are none."""
        if (place := self._place(target)) is not None:
            row, column, margin = *place, 0
            bottom, right = row + target.height, column + target.width
        else:
            row, column, bottom, right = self._footprint(target)
            margin = 2 + math.ceil(2 * max(1.0, target.gsd_m / self._gsd_m))
        row, column = max(0, row - margin), max(0, column - margin)
        height = min(self._height, bottom + margin) - row
        width = min(self._width, right + margin) - column
        return _Block(row, column, height, width, margin) if height > 0 and width > 0 else None

    def _place(self, target: _Target) -> tuple[int, int] | None:
        """Row and column of the lattice at which a target begins; None if its pixels are not the grid's."""
        own, wanted, gsd_m = self._transform, target.transform, target.gsd_m
        if not self._is_in_crs or (own.a, own.b, own.d, own.e) != (gsd_m, 0, 0, -gsd_m):
            return None
        row, column = (own.f - wanted.f) / gsd_m, (wanted.c - own.c) / gsd_m
        return (round(row), round(column)) if row == round(row) and column == round(column) else None

    def _footprint(self, target: _Target) -> tuple[int, int, int, int]:
        """First row and column of the lattice under a target, and the row and column after the last."""
        rows, columns = np.linspace(0, target.height, 22), np.linspace(0, target.width, 22)
        zeros = np.zeros(22)
        edge = (
            np.concatenate([columns, columns, zeros, zeros + target.width]),
            np.concatenate([zeros, zeros + target.height, rows, rows]),
        )
        xs, ys = (np.array(values) for values in transform(self._grid.crs, self._crs, *(target.transform * edge)))
        if self._crs.is_geographic:
            # Beyond 180 degrees PROJ returns longitudes on the other side of the world.
            centre, _ = self._transform * (self._width / 2, self._height / 2)
            xs = (xs - centre + 180) % 360 - 180 + centre
        is_there = np.isfinite(xs) & np.isfinite(ys)
        if not is_there.any():
            return 0, 0, 0, 0
        columns, rows = ~self._transform * (xs[is_there], ys[is_there])
        return math.floor(rows.min()), math.floor(columns.min()), math.ceil(rows.max()), math.ceil(columns.max())

    def _onto(self, values: Floats, block: _Block, target: _Target, resampling: Resampling) -> Floats:
        """A block's values `[C, h, w]` on the target's pixels, NaN beyond the block."""
        place = self._place(target)
        if place is not None and values.shape[1:] == target.shape:
            return values
        pixels = np.full((len(values), *target.shape), np.nan, np.float32)
        if place is not None:
            row, column = block.row - place[0], block.column - place[1]
            pixels[:, row : row + block.height, column : column + block.width] = values
            return pixels
        reproject(
            values,
            pixels,
            src_transform=self._transform * Affine.translation(block.column, block.row),
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


def _has_all(values: Floats, number: float) -> bool:
    """Whether some pixel has this number in all bands; in most cases the first band is enough to decide."""
    return bool((values[0] == number).any()) and bool((values == number).all(axis=0).any())


class SceneReader(ExitStack):
    """Reads windows of scenes onto a grid, co-registered by georeference. One thread at a time may use it.

    `inputs` are the arrays that the model takes, without those of absent modalities and resolutions.
    """

    def __init__(self, scenes: Mapping[str, Scene], inputs: Sequence[ModalityInput], grid: Grid) -> None:
        super().__init__()
        given = [item for item in inputs if item.modality in scenes]
        self.inputs = tuple(item for item in given if set(item.bands) <= scenes[item.modality].bands.keys())
        self._absent = [item for item in given if item not in self.inputs]
        self.grid = grid
        self._tallies: dict[str, Counter[str]] = {item.name: Counter() for item in self.inputs}
        self._scenes = scenes
        self._lattices: dict[str, list[_Lattice]] = {}

    def __enter__(self) -> Self:
        self.enter_context(rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES))
        for modality, units in {item.modality: item.units for item in self.inputs}.items():
            self._lattices[modality] = self._opened(self._scenes[modality], units)
        return self

    def _opened(self, scene: Scene, units: Units) -> list[_Lattice]:
        """A modality's lattices; their files are open until the reader is closed."""
        files: dict[Any, list[tuple[Path | ItemAsset, Any, dict[str, int]]]] = defaultdict(list)
        nodata: list[float | None] = []
        for path in scene.files:
            indexes = {name: band.index for name, band in scene.bands.items() if band.path == path}
            dataset = self.enter_context(open_raster(path))
            statement = statement_of(path, dataset, units, tuple(indexes.values()))
            if scene.reading.offset and any(statement.offsets):
                raise InputError(
                    f"{path} states an offset itself, which is taken off already.",
                    got=f"{statement.text}, and --offset {scene.modality}={scene.reading.offset}",
                    expected="one of the two",
                    hint="leave out --offset",
                )
            if statement.is_scaled and scene.units != "power":
                samples = [read_bands(dataset, statement, window) for window in sample_windows(dataset)]
                require_possible(path, samples, units, MEND if isinstance(path, ItemAsset) else "")
            nodata += statement.nodata
            files[dataset.crs.to_wkt(), tuple(dataset.transform), dataset.shape].append((path, dataset, indexes))
        return [_Lattice(same, units, self.grid, zero_is_nodata(nodata, units)) for same in files.values()]

    def read(self, item: ModalityInput, *box_m: int, tally: Counter[str] | None = None) -> Floats:
        """Read one array's pixels in a window of the grid: its top, left, height and width in metres.

        Pixels `[C, h, w]` are in the model's units, and NaN where the scene has no data in one of the bands; these are
        added, by reason, to `tally`.

        Raises:
            InputError: a file can't be read.
        """
        tally = Counter() if tally is None else tally
        target = _Target(self.grid, item.gsd_m, *(metres // item.gsd_m for metres in box_m))
        bands: dict[str, Floats] = {}
        for lattice in self._lattices[item.modality]:
            if names := [name for name in item.bands if name in lattice.names]:
                others = [other for other in self._lattices[item.modality] if other is not lattice]
                bands.update(zip(names, lattice.read(names, target, others, tally), strict=True))
        pixels = np.stack([bands[name] for name in item.bands])
        missing = np.isnan(pixels)
        empty = missing.any(axis=0)
        if empty.any():
            tally[_SOME_BANDS] += int((empty & ~missing.all(axis=0)).sum())
            np.copyto(pixels, np.nan, where=empty)
        return _in_units(pixels, self._scenes[item.modality])

    def read_counted(self, item: ModalityInput, *box_m: int) -> Floats:
        """Read as `read` does, and count the pixels without data, by reason, for `nodata_sentences`."""
        tally = self._tallies[item.name]
        pixels = self.read(item, *box_m, tally=tally)
        others = [other for other in self.inputs if other.modality == item.modality and other is not item]
        clipped_to, is_finest = item.unit.clipped_to, all(item.gsd_m <= other.gsd_m for other in others)
        if clipped_to is not None and is_finest and _has_all(pixels, clipped_to):
            arrays = [pixels, *(self.read(other, *box_m) for other in others)]
            tally[_ALL_ONE] += int(nowhere_but(clipped_to, arrays)[0].sum())
        return pixels

    def nodata_sentences(self) -> tuple[str, ...]:
        """Describe the pixels without data that `read_counted` found, by input, and what may be unexpected."""
        found = [
            f"{item.name}: the scene has no {', '.join(item.bands)}; the model goes on without them"
            for item in self._absent
        ]
        for name, tally in self._tallies.items():
            if reasons := [f"{tally[reason]:,} {reason}" for reason in _REASONS if tally[reason]]:
                share = sum(tally[reason] for reason in _REASONS) / tally[_PIXELS]
                found.append(f"{name}: {share:.1%} of {tally[_PIXELS]:,} pixels have no data: {', '.join(reasons)}")
            if tally[_SOME_BANDS] > _MAX_SHARE_OF_SOME_BANDS * tally[_PIXELS]:
                found.append(
                    f"{name}: {tally[_SOME_BANDS]:,} pixels are {_SOME_BANDS}, and count as no data; if 0 is a value "
                    "there, as over dark water, and the files state it as nodata: rio edit-info FILE --unset-nodata"
                )
            if tally[_ALL_ONE]:
                found.append(
                    f"{name}: {tally[_ALL_ONE]:,} pixels are {_ALL_ONE}, as along the edge of a swath; they are taken "
                    "for data: if they are none, set them to 0 in all bands"
                )
        return tuple(found)


def _in_units(pixels: Floats, scene: Scene) -> Floats:
    units = scene.units
    if units != "dB":
        require_linear(scene.modality, float((pixels < 0).mean()), units, of="tile")
        to_decibels(pixels, units)
    if scene.reading.offset:
        pixels -= scene.reading.offset
        # Atmospheric correction makes the darkest water a little less than 0.
        np.maximum(pixels, 0, out=pixels)
    return pixels
