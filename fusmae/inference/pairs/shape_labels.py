"""Labels from polygons and points of a vector file."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.features import rasterize
from rasterio.warp import transform

from fusmae.data.pixels import NO_CLASS
from fusmae.errors import InputError
from fusmae.inference.pairs.label_file import (
    LabelFile,
    box_in,
    first_of,
    labels_elsewhere,
    labels_without_crs,
    require_names,
    require_overlap,
)
from fusmae.inference.scene.grid import Grid, Unit
from fusmae.runs.utf8 import composed

_POINT, _LINES = 0, (1, 2)


class ShapeLabels:
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

    def shares(self, unit: Unit) -> NDArray[np.float64]:
        """See `Labels.shares`."""
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
        """See `Labels.positions`."""
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
        """See `Labels.notes`."""
        return self._notes


def open_shapes(file: LabelFile, grid: Grid, gsd_m: int) -> ShapeLabels:
    """Open a vector file of polygons and points; see `open_labels`."""
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
            raise labels_without_crs(file.path, f"`ogr2ogr -a_srs EPSG:… NEW.gpkg {file.path}`, if you know it")
        crs = rasterio.crs.CRS.from_user_input(facts["crs"])
        if facts["total_bounds"] is not None and np.isfinite(facts["total_bounds"]).all():
            require_overlap(file.path, grid, crs, facts["total_bounds"])
        _, _, wkb, fields = pyogrio.raw.read(
            file.path, layer=layer, columns=[file.class_column], force_2d=True, bbox=box_in(crs, grid)
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
    require_names(named)
    names = tuple(dict.fromkeys(file.names.values())) if file.names else tuple(sorted(filter(None, set(named))))
    is_used = np.array([bool(named[owner]) for owner in owners], np.bool_) & ~shapely.is_empty(shapes)
    shapes, owners = shapes[is_used], owners[is_used]
    shapes = _moved(shapes, crs, grid)
    is_there = np.isfinite(shapely.bounds(shapes)).all(axis=1)
    numbers = np.array([names.index(named[owner]) for owner in owners[is_there]], np.intp)
    left, top = grid.left, grid.top
    ground = shapely.box(left, top - grid.height_m, left + grid.width_m, top)
    if not (is_there.any() and shapely.intersects(shapes[is_there], ground).any()):
        raise labels_elsewhere(file.path, crs, facts["total_bounds"], grid, f"; {'; '.join(notes)}" if notes else "")
    return ShapeLabels(shapes[is_there], numbers, names, grid, gsd_m, notes)


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
        notes.append(f"values without a name in --classes are no labels: {first_of(strange)}")
    return notes


def _moved(shapes: Any, crs: Any, grid: Grid) -> Any:
    """Shapes in the grid's CRS; infinite where they have no place in it."""
    if crs == grid.crs:
        return shapes
    # Straight sides are curved in another CRS: one point per tile's side follows them.
    left, _, right, _ = box_in(crs, grid) or (0.0, 0.0, 1.0, 0.0)
    shapes = shapely.segmentize(shapes, max((right - left) * grid.tile_m / grid.width_m, 1e-9))

    def moved(points: Any) -> Any:
        return np.column_stack(transform(crs, grid.crs, points[:, 0], points[:, 1]))

    return shapely.transform(shapes, moved)


def _text(value: Any) -> str:
    """A cell as text: 3.0 is 3, an empty cell is ""."""
    if value is None or (isinstance(value, float | np.floating) and not np.isfinite(value)):
        return ""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()
