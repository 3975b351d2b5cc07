"""Labels from a raster: its numbers are classes, or the values of a regression."""

import re
from collections.abc import Mapping
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from fusmae.data.pixels import NO_CLASS
from fusmae.errors import InputError
from fusmae.inference.pairs.label_file import (
    LabelFile,
    absent_labels,
    box_in,
    first_of,
    labels_without_crs,
    require_names,
    require_overlap,
)
from fusmae.inference.scene.bands import raster
from fusmae.inference.scene.files import ENDINGS
from fusmae.inference.scene.grid import Grid, Unit
from fusmae.modalities import MAP_GSD_M
from fusmae.rasters.geometry import box_of
from fusmae.runs.utf8 import composed

_CATEGORY = re.compile(r"<Category(?:\s*/>|>([^<]*)</Category>)")
_LOOK_PX = 1000


class ClassNumbers:
    """A raster of class numbers; `names_by_number` has the name of each number that is a class."""

    def __init__(self, path: Path, names_by_number: Mapping[int, str], grid: Grid, gsd_m: int) -> None:
        self.names = tuple(dict.fromkeys(names_by_number.values()))
        self._path, self._by_number, self._grid, self._gsd_m = path, names_by_number, grid, gsd_m
        self._unnamed: set[int] = set()

    def shares(self, unit: Unit) -> NDArray[np.float64]:
        """See `Labels.shares`."""
        numbers = self._read(unit)
        side_px = self._grid.tile_m // self._gsd_m
        tiles = numbers.reshape(side_px, len(unit.lefts_m), side_px)
        found = np.zeros((len(unit.lefts_m), len(self.names)))
        for number in np.unique(numbers.compressed()).tolist():
            if name := self._by_number.get(number):
                found[:, self.names.index(name)] += (tiles == number).filled(False).mean(axis=(0, 2))
            else:
                self._unnamed.add(number)
        return found

    def positions(self, unit: Unit) -> NDArray[np.uint8]:
        """See `Labels.positions`."""
        numbers = self._read(unit)
        found = np.full(numbers.shape, NO_CLASS, np.uint8)
        for number in np.unique(numbers.compressed()).tolist():
            if name := self._by_number.get(number):
                found[(numbers == number).filled(False)] = self.names.index(name)
            else:
                self._unnamed.add(number)
        return found

    def _read(self, unit: Unit) -> Any:
        return _on_grid(self._path, self._grid, self._gsd_m, unit, Resampling.nearest)

    def notes(self) -> tuple[str, ...]:
        """See `Labels.notes`."""
        if not self._unnamed:
            return ()
        return (f"numbers without a name in {self._path.name} are no labels: {first_of(sorted(self._unnamed))}",)


def _on_grid(path: Path, grid: Grid, gsd_m: int, unit: Unit, how: Resampling, **options: Any) -> Any:
    """Numbers `[h, w]` of a raster on a unit's tiles in pixels of `gsd_m`, masked where the raster has no data."""
    whole = {"height": grid.height_m // gsd_m, "width": grid.width_m // gsd_m, "transform": grid.transform(gsd_m)}
    side_px = grid.tile_m // gsd_m
    window = Window(unit.left_m // gsd_m, unit.top_m // gsd_m, side_px * len(unit.lefts_m), side_px)
    with raster(path) as dataset:
        # Without a value for nodata, ground beyond the raster would count as number 0.
        fills = {"add_alpha": True} if dataset.nodata is None else {}
        with WarpedVRT(dataset, crs=grid.crs, resampling=how, **whole, **fills, **options) as warped:
            return warped.read(1, window=window, masked=True)


class LabelValues:
    """A raster of numbers on a grid of tiles, in any CRS."""

    names: tuple[str, ...] = ()

    def __init__(self, file: LabelFile, grid: Grid) -> None:
        """Open the raster.

        Raises:
            InputError: the file can't be read, has no CRS, lies elsewhere, or is no raster of numbers.
        """
        if not file.path.exists():
            raise absent_labels(file.path)
        if file.path.suffix.lower() not in ENDINGS or file.names or file.class_column or file.layer:
            raise InputError(
                "The labels of a regression are the numbers of a raster.",
                got=f"{file.path}{', with classes' if file.names or file.class_column or file.layer else ''}",
                expected="a GeoTIFF with one band, without --classes, --class-column and --layer",
                hint="`gdal_rasterize -a COLUMN -tr 10 10 -a_nodata -9999 FILE NEW.tif` makes one of polygons",
            )
        with raster(file.path) as dataset:
            _require_usable(file.path, dataset, grid, "iuf", ("numbers", "one band", ""))
            box = box_of(dataset)
            here = box_in(dataset.crs, grid) or box
            pixels_per_map_pixel = (here[2] - here[0]) / dataset.res[0] / (grid.width_m / MAP_GSD_M)
            self._scale, self._offset = dataset.scales[0], dataset.offsets[0]
        # Smaller pixels are averaged, so that none is passed over; larger ones are read between their centres.
        self._how = Resampling.average if pixels_per_map_pixel > 1 else Resampling.bilinear
        self._path, self._grid = file.path, grid

    def values(self, unit: Unit) -> NDArray[np.float32]:
        """The numbers of a unit's tiles side by side at 10 m, `[h, w]`, NaN where there is none."""
        # As floats, so that means of whole numbers are not rounded.
        found = _on_grid(self._path, self._grid, MAP_GSD_M, unit, self._how, dtype="float32")
        values = found.filled(np.nan).astype(np.float64) * self._scale + self._offset
        with np.errstate(over="ignore"):
            numbers: NDArray[np.float32] = np.where(np.isfinite(values), values, np.nan).astype(np.float32)
        return numbers

    def notes(self) -> tuple[str, ...]:
        """No sentences: all numbers are used."""
        return ()


def open_class_raster(file: LabelFile, grid: Grid, gsd_m: int) -> ClassNumbers:
    """Open a raster of class numbers; see `open_labels`."""
    if file.class_column or file.layer:
        raise InputError(
            f"{file.path} is a raster: it has no columns and no layers.",
            expected="a raster of class numbers, named by --classes, or a vector file with --class-column",
            hint="leave out --class-column and --layer",
        )
    with raster(file.path) as dataset:
        words = ("class numbers", "one band of whole numbers", " --dtype uint8")
        _require_usable(file.path, dataset, grid, "iu", words)
        names = _numbered(file) or _categories(file.path)
        if not names:
            step = max(1, max(dataset.shape) // _LOOK_PX)
            sample = dataset.read(1, out_shape=tuple(max(1, side // step) for side in dataset.shape), masked=True)
            raise InputError(
                f"What the numbers of {file.path} mean is not known: it has no category names.",
                got=f"numbers {first_of(np.unique(sample.compressed()).tolist())}",
                expected="a name for each number that is a class",
                hint='--classes 1=NAME --classes 2=NAME, or --classes FILE.json with {"1": "NAME"}',
            )
    return ClassNumbers(file.path, names, grid, gsd_m)


def _require_usable(path: Path, dataset: Any, grid: Grid, kinds: str, words: tuple[str, str, str]) -> None:
    """Raise InputError unless a raster has a CRS and one band of these kinds of numbers, and lies on the grid.

    `words` are what it holds, what is expected, and the option of `rio convert` that makes it.
    """
    if dataset.crs is None:
        raise labels_without_crs(path, f"`rio edit-info {path} --crs EPSG:…`, if you know it")
    if dataset.count != 1 or np.dtype(dataset.dtypes[0]).kind not in kinds:
        content, expected, option = words
        raise InputError(
            f"{path} is no raster of {content}.",
            got=f"{dataset.count} bands of {dataset.dtypes[0]}",
            expected=expected,
            hint=f"`rio convert {path} NEW.tif --bidx 1{option}`, if its first band has the numbers",
        )
    require_overlap(path, grid, dataset.crs, box_of(dataset))


def _numbered(file: LabelFile) -> dict[int, str]:
    try:
        names = {int(value): name for value, name in file.names.items()}
    except ValueError:
        raise InputError(
            "--classes of a raster gives names to whole numbers.",
            got=", ".join(file.names),
            expected="NUMBER=NAME, such as 1=water",
        ) from None
    require_names(names.values())
    return names


def _categories(path: Path) -> dict[int, str]:
    """Category names by number, which GDAL and QGIS keep beside a GeoTIFF."""
    beside = path.with_name(f"{path.name}.aux.xml")
    if not beside.is_file():
        return {}
    # Searched as text, so that no parser follows references to other documents.
    found = _CATEGORY.findall(beside.read_text(encoding="utf-8", errors="replace"))
    # 0 stands for nodata in maps of this project and in most others.
    names = {number: composed(unescape(name).strip()) for number, name in enumerate(found)}
    names = {number: name for number, name in names.items() if name and name.lower() not in ("no data", "nodata")}
    require_names(names.values())
    return names
