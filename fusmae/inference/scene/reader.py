"""Reads scenes of any CRS, pixel size and order of files onto the grid, as the arrays that a model takes."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Self

import numpy as np
import rasterio

from fusmae.errors import InputError
from fusmae.inference.scene.grid import Grid
from fusmae.inference.scene.lattice import Lattice, Target, has_all
from fusmae.inference.scene.nodata import ALL_ONE, SOME_BANDS
from fusmae.inference.scene.scene import Scene
from fusmae.modalities import ModalityInput, Units
from fusmae.rasters.raster_file import (
    Floats,
    nowhere_but,
    read_bands,
    require_possible,
    sample_windows,
    statement_of,
    zero_is_nodata,
)
from fusmae.rasters.s1_units import FACTOR, require_linear

# Size of GDAL's cache of blocks. It holds a row of blocks in every band of Sentinel-2, so that each is read once.
_CACHE_BYTES = 256 * 2**20


class SceneReader(ExitStack):
    """Reads windows of scenes onto a grid, co-registered by georeference. One thread at a time may use it.

    Attributes:
        inputs: the arrays that the model takes, without those of absent modalities.
        tallies: counts of pixels that `read_counted` found without data, by input name.
    """

    def __init__(self, scenes: Mapping[str, Scene], inputs: Sequence[ModalityInput], grid: Grid) -> None:
        super().__init__()
        self.inputs = tuple(item for item in inputs if item.modality in scenes)
        self.grid = grid
        self.tallies: dict[str, Counter[str]] = {item.name: Counter() for item in self.inputs}
        self._scenes = scenes
        self._lattices: dict[str, list[Lattice]] = {}

    def __enter__(self) -> Self:
        self.enter_context(rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES))
        for modality, units in {item.modality: item.units for item in self.inputs}.items():
            self._lattices[modality] = self._opened(self._scenes[modality], units)
        return self

    def _opened(self, scene: Scene, units: Units) -> list[Lattice]:
        """A modality's lattices; their files are open until the reader is closed."""
        files: dict[Any, list[tuple[Any, dict[str, int]]]] = defaultdict(list)
        nodata: list[float | None] = []
        for path in scene.files:
            indexes = {name: band.index for name, band in scene.bands.items() if band.path == path}
            dataset = self.enter_context(rasterio.open(path))
            statement = statement_of(path, dataset, units, tuple(indexes.values()))
            if scene.reading.offset and any(statement.offsets):
                raise InputError(
                    f"{path} states an offset itself, which is taken off already.",
                    got=f"{statement.text}, and --offset {scene.modality}={scene.reading.offset}",
                    expected="one of the two",
                    hint="leave out --offset",
                )
            if statement.is_scaled and scene.reading.units != "power":
                samples = [read_bands(dataset, statement, window) for window in sample_windows(dataset)]
                require_possible(path, samples, units)
            nodata += statement.nodata
            files[dataset.crs.to_wkt(), tuple(dataset.transform), dataset.shape].append((dataset, indexes))
        return [Lattice(same, units, self.grid, zero_is_nodata(nodata, units)) for same in files.values()]

    def read(self, item: ModalityInput, top_m: int, left_m: int, height_m: int, width_m: int) -> Floats:
        """Read one array's pixels in a window of the grid.

        Returns:
            Pixels `[C, h, w]` in the model's units; NaN where the scene has no data in one of the bands.

        Raises:
            InputError: a file can't be read.
        """
        return self._read(item, (top_m, left_m, height_m, width_m), Counter())

    def read_counted(self, item: ModalityInput, top_m: int, left_m: int, height_m: int, width_m: int) -> Floats:
        """Read as `read` does, and count the pixels without data, by reason, in `tallies`."""
        box_m, tally = (top_m, left_m, height_m, width_m), self.tallies[item.name]
        pixels = self._read(item, box_m, tally)
        others = [other for other in self.inputs if other.modality == item.modality and other is not item]
        clipped_to, is_finest = item.unit.clipped_to, all(item.gsd_m <= other.gsd_m for other in others)
        if clipped_to is not None and is_finest and has_all(pixels, clipped_to):
            arrays = [pixels, *(self._read(other, box_m, Counter()) for other in others)]
            tally[ALL_ONE] += int(nowhere_but(clipped_to, arrays)[0].sum())
        return pixels

    def _read(self, item: ModalityInput, box_m: tuple[int, int, int, int], tally: Counter[str]) -> Floats:
        target = Target(self.grid, item.gsd_m, *(metres // item.gsd_m for metres in box_m))
        bands: dict[str, Floats] = {}
        for lattice in self._lattices[item.modality]:
            if names := [name for name in item.bands if name in lattice.names]:
                others = [other for other in self._lattices[item.modality] if other is not lattice]
                bands.update(zip(names, lattice.read(names, target, others, tally), strict=True))
        pixels = np.stack([bands[name] for name in item.bands])
        missing = np.isnan(pixels)
        empty = missing.any(axis=0)
        if empty.any():
            tally[SOME_BANDS] += int((empty & ~missing.all(axis=0)).sum())
            np.copyto(pixels, np.nan, where=empty)
        return _in_units(pixels, self._scenes[item.modality])


def _in_units(pixels: Floats, scene: Scene) -> Floats:
    units = scene.reading.units
    if units != "dB":
        require_linear(scene.modality, float((pixels < 0).mean()), units, of="tile")
        # 0 in one band is a measurement of no power, which has no logarithm: the pixel has no data.
        np.copyto(pixels, np.nan, where=(pixels <= 0).any(axis=0))
        np.log10(pixels, out=pixels)
        pixels *= FACTOR[units]
    if scene.reading.offset:
        pixels -= scene.reading.offset
        # Atmospheric correction makes the darkest water a little less than 0.
        np.maximum(pixels, 0, out=pixels)
    return pixels
