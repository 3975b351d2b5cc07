"""Names a file of labels, and refuses one of any format that can't be used: absent, elsewhere, without a CRS."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rasterio.warp import transform_bounds

from fusmae.errors import InputError, first_three
from fusmae.inference.scene.grid import Grid
from fusmae.rasters.geometry import Box


@dataclass(frozen=True)
class LabelFile:
    """Labels as a command line names them."""

    path: Path  # path of a vector file or of a raster
    class_column: str = ""  # name of the column with the class, of a vector file
    layer: str = ""  # name of the layer; "" for the only one
    # Class name by value of the column or number of the raster, where these are not the names themselves; other values
    # are no labels. Empty where values are names, or where the raster states names.
    names: Mapping[str, str] = field(default_factory=dict)


def absent_labels(path: Path) -> InputError:
    """The error where there is no file."""
    return InputError(f"There are no labels at {path}.", hint="check --labels")


def box_in(crs: Any, grid: Grid) -> Box | None:
    """The grid's box in another CRS; None where it goes beyond the 180th meridian."""
    left, top = grid.left, grid.top
    found = transform_bounds(grid.crs, crs, left, top - grid.height_m, left + grid.width_m, top)
    return (found[0], found[1], found[2], found[3]) if found[0] < found[2] else None


def require_overlap(path: Path, grid: Grid, crs: Any, box: Sequence[float]) -> None:
    """Raise InputError if labels in a box of their CRS lie beside the grid."""
    here = box_in(crs, grid)
    if here and not (here[0] < box[2] and box[0] < here[2] and here[1] < box[3] and box[1] < here[3]):
        raise labels_elsewhere(path, crs, box, grid)


def labels_elsewhere(path: Path, crs: Any, box: Any, grid: Grid, notes: str = "") -> InputError:
    """The error where labels in a box of their CRS, None if it is not known, lie beside the grid."""

    def shown(sides: Any) -> str:
        return "({:.6g}, {:.6g}) to ({:.6g}, {:.6g})".format(*sides) if sides is not None else "unknown"

    return InputError(
        f"No label of {path} lies on the scene.",
        got=f"labels from {shown(box)}, the scene from {shown(box_in(crs, grid))} in {crs.to_string()}{notes}",
        expected="labels on the scene's ground",
        hint="bring the labels of this place; if they are, their CRS is stated wrongly: `ogrinfo -so FILE LAYER`, or "
        "`rio info FILE` for a raster, shows it",
    )


def labels_without_crs(path: Path, hint: str) -> InputError:
    """The error where a file states no CRS; `hint` is the command that states one."""
    return InputError(f"{path} has no CRS: where its labels lie can't be known.", expected="a CRS", hint=hint)


def require_names(names: Any) -> None:
    """Raise InputError if names of classes have characters that separate labels."""
    if wrong := sorted({name for name in names if set(name) & set(";|")}):
        raise InputError(
            "Names of classes can't have ; or | in them, which separate the labels of a pair.",
            got=first_three(wrong),
            hint="--classes VALUE=NAME gives each value another name; only values that it names are labels then",
        )


def first_of(values: Sequence[Any], most: int = 10) -> str:
    """The first values as a text that says whether there are more."""
    return ", ".join(map(str, values[:most])) + (" …" if len(values) > most else "")
