"""Labels of tiles: classes from polygons, points or a raster of class numbers; values from a raster of numbers."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.features import rasterize
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform, transform_bounds
from rasterio.windows import Window

from fusmae.data.pixels import NO_CLASS
from fusmae.errors import InputError, first_three
from fusmae.inference.scene.bands import raster
from fusmae.inference.scene.files import ENDINGS
from fusmae.inference.scene.grid import Grid, Unit
from fusmae.modalities import MAP_GSD_M
from fusmae.rasters.geometry import Box, box_of
from fusmae.runs.utf8 import composed

Shares = NDArray[np.float64]

_CATEGORY = re.compile(r"<Category(?:\s*/>|>([^<]*)</Category>)")
_LOOK_PX = 1000
_POINT, _LINES, _POLYGON = 0, (1, 2), 3


@dataclass(frozen=True)
class LabelFile:
    """Labels as a command line names them."""

    path: Path  # path of a vector file or of a raster
    class_column: str = ""  # name of the column with the class, of a vector file
    layer: str = ""  # name of the layer; "" for the only one
    # Class name by value of the column or number of the raster, where these are not the names themselves; other values
    # are no labels. Empty where values are names, or where the raster states names.
    names: Mapping[str, str] = field(default_factory=dict)


class Labels(Protocol):
    """Classes on a grid of tiles."""

    names: tuple[str, ...]  # names of the classes, in the order of the columns of `shares`

    def shares(self, unit: Unit) -> Shares:
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
        raise _absent(file.path)
    is_raster = file.path.suffix.lower() in ENDINGS
    return _raster_labels(file, grid, gsd_m) if is_raster else _vector_labels(file, grid, gsd_m)


class _Shapes:
    """Polygons and points in the grid's CRS; `numbers` `[N]` are their classes, as positions in `names`."""

    def __init__(
        self,
        shapes: Any,
        numbers: NDArray[np.intp],
        names: tuple[str, ...],
        grid: Grid,
        gsd_m: int,
        notes: Sequence[str],
    ) -> None:
        self.names = names
        self._shapes, self._numbers, self._grid, self._gsd_m, self._notes = shapes, numbers, grid, gsd_m, tuple(notes)
        self._is_point = shapely.get_type_id(shapes) == _POINT
        self._tree = shapely.STRtree(shapes)

    def shares(self, unit: Unit) -> Shares:
        grid, num_tiles = self._grid, len(unit.lefts_m)
        left, top, tile_m = grid.left + unit.left_m, grid.top - unit.top_m, grid.tile_m
        found = np.zeros((num_tiles, len(self.names)))
        near = self._tree.query(shapely.box(left, top - tile_m, left + num_tiles * tile_m, top))
        points, areas = near[self._is_point[near]], near[~self._is_point[near]]
        columns = (shapely.get_x(self._shapes[points]) - left) // tile_m
        is_inside = (columns >= 0) & (columns < num_tiles) & (shapely.get_y(self._shapes[points]) > top - tile_m)
        found[columns[is_inside].astype(int), self._numbers[points[is_inside]]] = 1
        side_px = tile_m // self._gsd_m
        place = rasterio.transform.from_origin(left, top, self._gsd_m, self._gsd_m)
        for number in np.unique(self._numbers[areas]):
            shapes = self._shapes[areas[self._numbers[areas] == number]].tolist()
            mask = rasterize(shapes, (side_px, num_tiles * side_px), transform=place, dtype="uint8")
            covered = mask.reshape(side_px, num_tiles, side_px).mean(axis=(0, 2))
            found[:, number] = np.maximum(found[:, number], covered)
        return found

    def positions(self, unit: Unit) -> NDArray[np.uint8]:
        grid, side_px = self._grid, self._grid.tile_m // self._gsd_m
        left, top, width_m = grid.left + unit.left_m, grid.top - unit.top_m, len(unit.lefts_m) * grid.tile_m
        near = self._tree.query(shapely.box(left, top - grid.tile_m, left + width_m, top))
        found = np.full((side_px, len(unit.lefts_m) * side_px), NO_CLASS, np.uint8)
        if len(near):
            near = near[np.argsort(-self._numbers[near], kind="stable")]  # what is drawn last stays
            place = rasterio.transform.from_origin(left, top, self._gsd_m, self._gsd_m)
            rasterize(zip(self._shapes[near], self._numbers[near].tolist(), strict=True), out=found, transform=place)
        return found

    def notes(self) -> tuple[str, ...]:
        return self._notes


class _Numbers:
    """A raster of class numbers; `names_by_number` has the name of each number that is a class."""

    def __init__(self, path: Path, names_by_number: Mapping[int, str], grid: Grid, gsd_m: int) -> None:
        self.names = tuple(dict.fromkeys(names_by_number.values()))
        self._path, self._by_number, self._grid, self._gsd_m = path, names_by_number, grid, gsd_m
        self._unnamed: set[int] = set()

    def shares(self, unit: Unit) -> Shares:
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
        if not self._unnamed:
            return ()
        return (f"numbers without a name in {self._path.name} are no labels: {_some(sorted(self._unnamed))}",)


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
            raise _absent(file.path)
        if file.path.suffix.lower() not in ENDINGS or file.names or file.class_column or file.layer:
            raise InputError(
                "The labels of a regression are the numbers of a raster.",
                got=f"{file.path}{', with classes' if file.names or file.class_column or file.layer else ''}",
                expected="a GeoTIFF with one band, without --classes, --class-column and --layer",
                hint="`gdal_rasterize -a COLUMN -tr 10 10 -a_nodata -9999 FILE NEW.tif` makes one of polygons",
            )
        with raster(file.path) as dataset:
            if dataset.crs is None:
                raise _no_crs(file.path, f"`rio edit-info {file.path} --crs EPSG:…`, if you know it")
            if dataset.count != 1 or np.dtype(dataset.dtypes[0]).kind not in "iuf":
                raise InputError(
                    f"{file.path} is no raster of numbers.",
                    got=f"{dataset.count} bands of {dataset.dtypes[0]}",
                    expected="one band",
                    hint=f"`rio convert {file.path} NEW.tif --bidx 1`, if its first band has the numbers",
                )
            box = box_of(dataset)
            _require_overlap(file.path, grid, dataset.crs, box)
            here = _box_in(dataset.crs, grid) or box
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


def _absent(path: Path) -> InputError:
    return InputError(f"There are no labels at {path}.", hint="check --labels")


def _raster_labels(file: LabelFile, grid: Grid, gsd_m: int) -> Labels:
    if file.class_column or file.layer:
        raise InputError(
            f"{file.path} is a raster: it has no columns and no layers.",
            expected="a raster of class numbers, named by --classes, or a vector file with --class-column",
            hint="leave out --class-column and --layer",
        )
    with raster(file.path) as dataset:
        if dataset.crs is None:
            raise _no_crs(file.path, f"`rio edit-info {file.path} --crs EPSG:…`, if you know it")
        if dataset.count != 1 or np.dtype(dataset.dtypes[0]).kind not in "iu":
            raise InputError(
                f"{file.path} is no raster of class numbers.",
                got=f"{dataset.count} bands of {dataset.dtypes[0]}",
                expected="one band of whole numbers",
                hint=f"`rio convert {file.path} NEW.tif --bidx 1 --dtype uint8`, if its first band has the numbers",
            )
        _require_overlap(file.path, grid, dataset.crs, box_of(dataset))
        names = _numbered(file) or _categories(file.path)
        if not names:
            step = max(1, max(dataset.shape) // _LOOK_PX)
            sample = dataset.read(1, out_shape=tuple(max(1, side // step) for side in dataset.shape), masked=True)
            raise InputError(
                f"What the numbers of {file.path} mean is not known: it has no category names.",
                got=f"numbers {_some(np.unique(sample.compressed()).tolist())}",
                expected="a name for each number that is a class",
                hint='--classes 1=NAME --classes 2=NAME, or --classes FILE.json with {"1": "NAME"}',
            )
    return _Numbers(file.path, names, grid, gsd_m)


def _numbered(file: LabelFile) -> dict[int, str]:
    try:
        names = {int(value): name for value, name in file.names.items()}
    except ValueError:
        raise InputError(
            "--classes of a raster gives names to whole numbers.",
            got=", ".join(file.names),
            expected="NUMBER=NAME, such as 1=water",
        ) from None
    _require_names(names.values())
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
    _require_names(names.values())
    return names


def _vector_labels(file: LabelFile, grid: Grid, gsd_m: int) -> Labels:
    import pyogrio
    from pyogrio.errors import DataSourceError

    try:
        layer = _layer_of(file, pyogrio.list_layers(file.path))
        facts = pyogrio.read_info(file.path, layer=layer, force_total_bounds=True)
        if file.class_column not in (columns := facts["fields"].tolist()):
            raise InputError(
                f"{file.path} has no column {file.class_column}."
                if file.class_column
                else "Which column has the class?",
                got=f"columns {', '.join(columns) or 'none'}",
                expected="the column with the class of each polygon or point",
                hint="--class-column " + (columns[0] if len(columns) == 1 else "NAME"),
            )
        if facts["crs"] is None:
            raise _no_crs(file.path, f"`ogr2ogr -a_srs EPSG:… NEW.gpkg {file.path}`, if you know it")
        crs = rasterio.crs.CRS.from_user_input(facts["crs"])
        if facts["total_bounds"] is not None and np.isfinite(facts["total_bounds"]).all():
            _require_overlap(file.path, grid, crs, facts["total_bounds"])
        _, _, wkb, fields = pyogrio.raw.read(
            file.path, layer=layer, columns=[file.class_column], force_2d=True, bbox=_box_in(crs, grid)
        )
    except (DataSourceError, RasterioError) as error:
        raise InputError(
            f"{file.path} can't be read: {error}", expected="a GeoPackage, GeoJSON or any other file that GDAL reads"
        ) from error
    shapes, owners = shapely.get_parts(shapely.from_wkb(wkb), return_index=True)
    kinds = shapely.get_type_id(shapes)
    if np.isin(kinds, _LINES).any():
        raise InputError(
            f"{file.path} has lines.", got=f"{int(np.isin(kinds, _LINES).sum()):,} lines", expected="polygons or points"
        )
    values = [_text(value) for value in fields[0]]
    named = [file.names.get(value, "") if file.names else composed(value) for value in values]
    notes = _unused(file, values, named)
    _require_names(named)
    names = tuple(dict.fromkeys(file.names.values())) if file.names else tuple(sorted(filter(None, set(named))))
    is_used = np.array([bool(named[owner]) for owner in owners], np.bool_) & ~shapely.is_empty(shapes)
    shapes, owners = shapes[is_used], owners[is_used]
    shapes = _moved(shapes, crs, grid)
    is_there = np.isfinite(shapely.bounds(shapes)).all(axis=1)
    numbers = np.array([names.index(named[owner]) for owner in owners[is_there]], np.intp)
    left, top = grid.left, grid.top
    ground = shapely.box(left, top - grid.height_m, left + grid.width_m, top)
    if not (is_there.any() and shapely.intersects(shapes[is_there], ground).any()):
        raise _elsewhere(file.path, crs, facts["total_bounds"], grid, f"; {'; '.join(notes)}" if notes else "")
    return _Shapes(shapes[is_there], numbers, names, grid, gsd_m, notes)


def _layer_of(file: LabelFile, layers: Any) -> str:
    """The name of the layer to read, of `layers` `[N, 2]` with names and types; those without geometry are left out."""
    known = [str(name) for name, kind in layers if kind is not None]
    if not file.layer and len(known) == 1:
        return known[0]
    if file.layer in known:
        return file.layer
    raise InputError(
        f"{file.path} has no layer {file.layer}."
        if file.layer
        else f"{file.path} has {len(known)} layers with shapes.",
        got=", ".join(known) or "tables without shapes",
        expected="the layer with the labels",
        hint=f"--layer {known[0]}, or another of these" if known else "bring polygons or points",
    )


def _unused(file: LabelFile, values: Sequence[str], named: Sequence[str]) -> list[str]:
    notes = []
    if empty := sum(not value for value in values):
        notes.append(f"{empty:,} of {len(values):,} shapes have no class in {file.class_column}")
    if strange := sorted({value for value, name in zip(values, named, strict=True) if value and not name}):
        notes.append(f"values without a name in --classes are no labels: {_some(strange)}")
    return notes


def _moved(shapes: Any, crs: Any, grid: Grid) -> Any:
    """Shapes in the grid's CRS; infinite where they have no place in it."""
    if crs == grid.crs:
        return shapes
    # Straight sides are curved in another CRS: one point per tile's side follows them.
    left, _, right, _ = _box_in(crs, grid) or (0.0, 0.0, 1.0, 0.0)
    shapes = shapely.segmentize(shapes, max((right - left) * grid.tile_m / grid.width_m, 1e-9))

    def moved(points: Any) -> Any:
        return np.column_stack(transform(crs, grid.crs, points[:, 0], points[:, 1]))

    return shapely.transform(shapes, moved)


def _box_in(crs: Any, grid: Grid) -> Box | None:
    """The grid's box in another CRS; None where it goes beyond the 180th meridian."""
    left, top = grid.left, grid.top
    found = transform_bounds(grid.crs, crs, left, top - grid.height_m, left + grid.width_m, top)
    return (found[0], found[1], found[2], found[3]) if found[0] < found[2] else None


def _require_overlap(path: Path, grid: Grid, crs: Any, box: Sequence[float]) -> None:
    here = _box_in(crs, grid)
    if here and not (here[0] < box[2] and box[0] < here[2] and here[1] < box[3] and box[1] < here[3]):
        raise _elsewhere(path, crs, box, grid)


def _elsewhere(path: Path, crs: Any, box: Any, grid: Grid, notes: str = "") -> InputError:
    def shown(sides: Any) -> str:
        return "({:.6g}, {:.6g}) to ({:.6g}, {:.6g})".format(*sides) if sides is not None else "unknown"

    return InputError(
        f"No label of {path} lies on the scene.",
        got=f"labels from {shown(box)}, the scene from {shown(_box_in(crs, grid))} in {crs.to_string()}{notes}",
        expected="labels on the scene's ground",
        hint="bring the labels of this place; if they are, their CRS is stated wrongly: `ogrinfo -so FILE LAYER`, or "
        "`rio info FILE` for a raster, shows it",
    )


def _no_crs(path: Path, hint: str) -> InputError:
    return InputError(f"{path} has no CRS: where its labels lie can't be known.", expected="a CRS", hint=hint)


def _text(value: Any) -> str:
    """A cell as text: 3.0 is 3, an empty cell is ""."""
    if value is None or (isinstance(value, float | np.floating) and not np.isfinite(value)):
        return ""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def _require_names(names: Any) -> None:
    if wrong := sorted({name for name in names if set(name) & set(";|")}):
        raise InputError(
            "Names of classes can't have ; or | in them, which separate the labels of a pair.",
            got=first_three(wrong),
            hint="--classes VALUE=NAME gives each value another name; only values that it names are labels then",
        )


def _some(values: Sequence[Any], most: int = 10) -> str:
    return ", ".join(map(str, values[:most])) + (" …" if len(values) > most else "")
