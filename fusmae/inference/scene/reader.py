"""Reads scenes of any CRS, pixel size and order of files onto the grid, as the arrays that a model takes."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fusmae.errors import InputError
from fusmae.inference.scene.grid import Grid
from fusmae.inference.scene.lattice import Lattice, OpenFile, Target, has_all
from fusmae.inference.scene.nodata import ALL_ONE, SOME_BANDS
from fusmae.inference.scene.scene import Scene
from fusmae.modalities import ModalityInput, Units
from fusmae.rasters.raster_file import (
    Statement,
    nowhere_but,
    read_bands,
    require_possible,
    sample_windows,
    statement_of,
    zero_is_nodata,
)
from fusmae.rasters.s1_units import FACTOR, require_linear

Pixels = NDArray[np.float32]
# Size of GDAL's cache of blocks. It holds a row of blocks in every band of Sentinel-2, so that each is read once.
_CACHE_BYTES = 256 * 2**20


class SceneReader:
    """Reads windows of scenes, co-registered by georeference. One thread at a time may use it.

    Args:
        scenes: scenes by modality.
        inputs: the arrays that the model takes; those of absent modalities are left out.
        grid: the grid onto which pixels are read.

    Attributes:
        tallies: counts of pixels that `read_counted` found without data, by input name.
    """

    def __init__(self, scenes: Mapping[str, Scene], inputs: Sequence[ModalityInput], grid: Grid) -> None:
        self.inputs = tuple(item for item in inputs if item.modality in scenes)
        self.grid = grid
        self.tallies: dict[str, Counter[str]] = {item.name: Counter() for item in self.inputs}
        self._scenes = scenes
        self._lattices: dict[str, list[Lattice]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        import rasterio

        self._stack.enter_context(rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES))
        units = {item.modality: item.units for item in self.inputs}
        for modality, kind in units.items():
            self._lattices[modality] = _lattices(self._scenes[modality], kind, self.grid, self._stack)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def read(self, item: ModalityInput, top_m: int, left_m: int, height_m: int, width_m: int) -> Pixels:
        """Read one array's pixels in a window of the grid.

        Returns:
            Pixels `[C, h, w]` in the model's units; NaN where the scene has no data in one of the bands.

        Raises:
            InputError: a file can't be read.
        """
        return self._read(item, (top_m, left_m, height_m, width_m), Counter())

    def read_counted(self, item: ModalityInput, top_m: int, left_m: int, height_m: int, width_m: int) -> Pixels:
        """Read as `read` does, and count the pixels without data, by reason, in `tallies`."""
        box_m, tally = (top_m, left_m, height_m, width_m), self.tallies[item.name]
        pixels = self._read(item, box_m, tally)
        siblings = [other for other in self.inputs if other.modality == item.modality]
        clipped_to, is_finest = item.unit.clipped_to, item.gsd_m == min(other.gsd_m for other in siblings)
        if clipped_to is not None and is_finest and has_all(pixels, clipped_to):
            others = [self._read(other, box_m, Counter()) for other in siblings if other is not item]
            tally[ALL_ONE] += int(nowhere_but(clipped_to, [pixels, *others])[0].sum())
        return pixels

    def _read(self, item: ModalityInput, box_m: tuple[int, int, int, int], tally: Counter[str]) -> Pixels:
        target = Target(self.grid, item.gsd_m, *(metres // item.gsd_m for metres in box_m))
        lattices = self._lattices[item.modality]
        parts = []
        for lattice in lattices:
            places = [place for place, name in enumerate(item.bands) if name in lattice.names]
            if places:
                others = [other for other in lattices if other is not lattice]
                names = [item.bands[place] for place in places]
                parts.append((places, lattice.read(names, target, others, tally)))
        pixels = parts[0][1] if len(parts) == 1 else np.empty((len(item.bands), *target.shape), np.float32)
        for places, part in parts if len(parts) > 1 else ():
            pixels[places] = part
        missing = np.isnan(pixels)
        empty = missing.any(axis=0)
        if empty.any():
            tally[SOME_BANDS] += int((empty & ~missing.all(axis=0)).sum())
            np.copyto(pixels, np.nan, where=empty)
        return _in_units(pixels, self._scenes[item.modality])


def _lattices(scene: Scene, units: Units, grid: Grid, stack: ExitStack) -> list[Lattice]:
    """A modality's lattices; their files are open until the stack is closed."""
    import rasterio

    by_lattice: dict[Any, list[OpenFile]] = defaultdict(list)
    for path, names in _by_file(scene):
        dataset = stack.enter_context(rasterio.open(path))
        statement = statement_of(path, dataset, units, [scene.bands[name].index for name in names])
        _require_one_offset(scene, path, statement)
        if statement.is_scaled and scene.reading.units != "power":
            samples = [read_bands(dataset, statement, window) for window in sample_windows(dataset)]
            require_possible(path, samples, units)
        key = (dataset.crs.to_wkt(), tuple(dataset.transform), dataset.height, dataset.width)
        by_lattice[key].append(OpenFile(path, dataset, statement, tuple(names)))
    lattices = [Lattice(files, units, grid) for files in by_lattice.values()]
    is_zero_nodata = zero_is_nodata([value for lattice in lattices for value in lattice.nodata], units)
    for lattice in lattices:
        lattice.is_zero_nodata = is_zero_nodata
    return lattices


def _by_file(scene: Scene) -> Iterator[tuple[Any, list[str]]]:
    names: dict[Any, list[str]] = defaultdict(list)
    for name, band in scene.bands.items():
        names[band.path].append(name)
    yield from names.items()


def _require_one_offset(scene: Scene, path: Any, statement: Statement) -> None:
    if scene.reading.offset and any(statement.offsets):
        raise InputError(
            f"{path} states an offset itself, which is taken off already.",
            got=f"{statement.text}, and --offset {scene.modality}={scene.reading.offset}",
            expected="one of the two",
            hint="leave out --offset",
        )


def _in_units(pixels: Pixels, scene: Scene) -> Pixels:
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
