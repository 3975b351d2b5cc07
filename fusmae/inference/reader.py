"""Scenes read onto the grid: any CRS, pixel size and order of files become the arrays that a model takes."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fusmae.errors import InputError
from fusmae.inference.bands import BandFile, unreadable
from fusmae.inference.grid import Grid
from fusmae.inference.scene import Scene, box_of
from fusmae.modalities import ModalityInput
from fusmae.s1_units import FACTOR

Pixels = NDArray[np.float32]
# Coarser than the source by more than this: the mean of all that lies in a pixel, else what is around its centre.
_MEAN_FROM = 1.5
# Of GDAL's blocks: what a row of them takes, in every band of a tile's width of Sentinel-2, is read once.
_CACHE_BYTES = 256 * 2**20
# Both products say so: no reflectance and no backscatter is ever exactly 0.
_EMPTY = 0
_MAX_NEGATIVE_SHARE = 0.05


class SceneReader:
    """Reads windows of scenes, co-registered by georeference. One thread at a time may use it.

    Args:
        scenes: by modality.
        inputs: the arrays that the model takes; those of absent modalities are left out.
        grid: where pixels shall lie.
    """

    def __init__(self, scenes: Mapping[str, Scene], inputs: Sequence[ModalityInput], grid: Grid) -> None:
        self.inputs = tuple(item for item in inputs if item.modality in scenes)
        self.grid = grid
        self._scenes = scenes
        self._sources: dict[str, list[tuple[_Source, list[int]]]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        import rasterio

        self._stack.enter_context(rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES))
        for item in self.inputs:
            scene = self._scenes[item.modality]
            places: dict[Any, list[int]] = defaultdict(list)
            for place, name in enumerate(item.bands):
                places[scene.bands[name].path].append(place)
            self._sources[item.name] = [
                (
                    _Source([scene.bands[item.bands[place]] for place in found], item.gsd_m, self.grid, self._stack),
                    found,
                )
                for found in places.values()
            ]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def read(self, item: ModalityInput, top_m: int, left_m: int, height_m: int, width_m: int) -> Pixels:
        """One array's pixels in a window of the grid.

        Returns:
            `[C, h, w]` in the model's units; NaN where the scene has no data in one of the bands.

        Raises:
            InputError: a file can't be read.
        """
        window = tuple(metres // item.gsd_m for metres in (top_m, left_m, height_m, width_m))
        pixels = np.empty((len(item.bands), window[2], window[3]), np.float32)
        for source, places in self._sources[item.name]:
            pixels[places] = source.read(*window)
        empty = np.isnan(pixels).any(axis=0)
        if empty.any():
            np.copyto(pixels, np.nan, where=empty)
        return _in_units(pixels, self._scenes[item.modality])


class _Source:
    """Bands of one file, warped onto the grid's pixels of one size."""

    def __init__(self, bands: Sequence[BandFile], gsd_m: int, grid: Grid, stack: ExitStack) -> None:
        import rasterio
        from rasterio.enums import Resampling
        from rasterio.vrt import WarpedVRT

        self._path = bands[0].path
        self._indexes = [band.index for band in bands]
        dataset = stack.enter_context(rasterio.open(self._path))
        is_float = np.dtype(dataset.dtypes[self._indexes[0] - 1]).kind == "f"
        empty = _EMPTY if dataset.nodata is None else dataset.nodata
        left, bottom, right, top = _bounds_on(grid, dataset)
        own_gsd_m = min((right - left) / dataset.width, (top - bottom) / dataset.height)
        self._empty = np.nan if is_float else empty
        self._rows_columns = _place_in(dataset, grid, gsd_m)
        if self._rows_columns is not None:  # its pixels are the grid's: nothing to warp
            self._empty, self._dataset = empty, dataset
            return
        self._dataset = stack.enter_context(
            WarpedVRT(
                dataset,
                crs=grid.crs,
                transform=grid.transform(gsd_m),
                width=grid.width_m // gsd_m,
                height=grid.height_m // gsd_m,
                resampling=Resampling.average if gsd_m > _MEAN_FROM * own_gsd_m else Resampling.bilinear,
                src_nodata=empty,
                nodata=self._empty,
                # Otherwise a pixel is empty only where all bands are, and one band's nodata is mixed into its data.
                UNIFIED_SRC_NODATA="NO",
            )
        )

    def read(self, row: int, column: int, height: int, width: int) -> Pixels:
        from rasterio.errors import RasterioError
        from rasterio.windows import Window

        if self._rows_columns is not None:
            row, column = row + self._rows_columns[0], column + self._rows_columns[1]
        try:
            found = self._dataset.read(self._indexes, window=Window(column, row, width, height))
        except RasterioError as error:
            raise unreadable(self._path, error) from error
        pixels: Pixels = found.astype(np.float32)
        # 0 is empty even where the file calls something else nodata.
        is_empty = found == _EMPTY
        if self._empty != _EMPTY:
            is_empty |= (found == self._empty) | ~np.isfinite(pixels)
        np.copyto(pixels, np.nan, where=is_empty)
        return pixels


def _place_in(dataset: Any, grid: Grid, gsd_m: int) -> tuple[int, int] | None:
    """Row and column of a file at which the grid begins, where the file has the grid's pixels, and all of them."""
    transform = dataset.transform
    if dataset.crs != grid.crs or (transform.a, transform.b, transform.d, transform.e) != (gsd_m, 0, 0, -gsd_m):
        return None
    row, column = (transform.f - grid.top) / gsd_m, (grid.left - transform.c) / gsd_m
    is_whole = row == round(row) and column == round(column)
    height, width = grid.height_m // gsd_m, grid.width_m // gsd_m
    is_inside = 0 <= row <= dataset.height - height and 0 <= column <= dataset.width - width
    return (round(row), round(column)) if is_whole and is_inside else None


def _bounds_on(grid: Grid, dataset: Any) -> tuple[float, float, float, float]:
    from rasterio.warp import transform_bounds

    found: tuple[float, float, float, float] = transform_bounds(dataset.crs, grid.crs, *box_of(dataset))
    return found


def _in_units(pixels: Pixels, scene: Scene) -> Pixels:
    units = scene.reading.units
    if units != "dB":
        is_negative = pixels < 0
        # Noise that was taken off leaves a few; they are no measurements.
        if is_negative.mean() > _MAX_NEGATIVE_SHARE:
            raise InputError(
                f"The {scene.modality} scene is no linear {units}: it has negative pixels.",
                got=f"{is_negative.mean():.0%} of a tile's pixels are negative",
                expected=f"{units}, never negative",
                hint=f"leave out --{scene.modality}-units {units} if it is in dB; "
                "if these are nodata, say so: rio edit-info FILE --nodata VALUE",
            )
        np.copyto(pixels, np.nan, where=pixels <= 0)
        np.log10(pixels, out=pixels)
        pixels *= FACTOR[units]
    if scene.reading.offset:
        pixels -= scene.reading.offset
        # Atmospheric correction makes the darkest water a little less than nothing.
        np.maximum(pixels, 0, out=pixels)
    return pixels
