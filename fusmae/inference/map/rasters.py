"""A map's rasters: cloud-optimized GeoTIFFs of probabilities and of the top class, and what a picture needs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray

from fusmae.inference.map.blend import Rows, confidence
from fusmae.inference.map.colours import class_colours
from fusmae.inference.scene.grid import Grid

STEP = 0.004
"""Probabilities and confidence are stored as whole numbers of it: 250 is 1."""
NODATA = 255
NO_CLASS = 0
_BLOCK_PX = 256
_PLAIN = {"tiled": True, "blockxsize": _BLOCK_PX, "blockysize": _BLOCK_PX, "BIGTIFF": "IF_SAFER"}


@dataclass
class Rasters:
    """Where a map's rasters were written.

    Attributes:
        probabilities: a band a class, then confidence.
        classes: number of the most probable class, from 1; 0 for nodata.
        look: float32, what the scene looks like, in one or more pixels a cell.
        counts: cells by class number.
    """

    probabilities: Path
    classes: Path
    look: Path
    counts: NDArray[np.int64] = field(repr=False)


def write_rasters(
    folder: Path, name: str, grid: Grid, rows: Iterable[Rows], classes: Sequence[str], tags: Mapping[str, str]
) -> Rasters:
    """Write the rasters of a map into a folder.

    Args:
        folder: for the files and for drafts of them.
        name: of the map without its ending.
        grid: where its cells lie.
        rows: from top to bottom.
        classes: names, in the order of the probabilities.
        tags: facts that the files carry.

    Raises:
        rasterio.errors.RasterioError: the disk is full.
    """
    drafts = {kind: folder / f"draft-{kind}.tif" for kind in ("probabilities", "classes", "look")}
    counts = _write_drafts(drafts, grid, rows, len(classes))
    _describe(drafts, classes, tags)
    found = Rasters(folder / f"{name}.tif", folder / f"{name}_classes.tif", drafts["look"], counts)
    _optimise(drafts["probabilities"], found.probabilities, "AVERAGE")
    _optimise(drafts["classes"], found.classes, "MODE")
    _write_category_names(found.classes, classes)
    return found


def _write_drafts(drafts: Mapping[str, Path], grid: Grid, rows: Iterable[Rows], num_classes: int) -> Any:
    import rasterio
    from rasterio.windows import Window

    height, width = grid.shape
    place = {"crs": grid.crs, "transform": grid.transform(grid.cell_m), "height": height, "width": width}
    counts = np.zeros(num_classes + 1, np.int64)
    rows = iter(rows)
    first = next(rows)
    # Pixels of the look along a cell's side.
    scale = first.look.shape[1] // first.probabilities.shape[1]
    fine = {"transform": grid.transform(grid.cell_m / scale), "height": height * scale, "width": width * scale}
    with (
        rasterio.open(
            drafts["probabilities"],
            "w",
            driver="GTiff",
            count=num_classes + 1,
            dtype="uint8",
            nodata=NODATA,
            photometric="MINISBLACK",
            **place,
            **_PLAIN,
        ) as probabilities,
        rasterio.open(
            drafts["classes"], "w", driver="GTiff", count=1, dtype="uint8", nodata=NO_CLASS, **place, **_PLAIN
        ) as top,
        rasterio.open(
            drafts["look"],
            "w",
            driver="GTiff",
            count=len(first.look),
            dtype="float32",
            nodata=np.nan,
            **place | fine,
            **_PLAIN,
        ) as look,
    ):
        for part in (first, *rows):
            window = Window(0, part.first, width, part.probabilities.shape[1])
            numbers = _top_class(part.probabilities)
            probabilities.write(_stored(part.probabilities), window=window)
            top.write(numbers, 1, window=window)
            look.write(part.look, window=Window(0, part.first * scale, width * scale, part.look.shape[1]))
            counts += np.bincount(numbers.ravel(), minlength=num_classes + 1)
    return counts


def _stored(probabilities: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Probabilities and their confidence as `[K + 1, rows, columns]` numbers of steps."""
    values = np.concatenate([probabilities, confidence(probabilities)[None]])
    return np.where(np.isnan(values), NODATA, np.rint(np.nan_to_num(values) / STEP)).astype(np.uint8)


def _top_class(probabilities: NDArray[np.float64]) -> NDArray[np.uint8]:
    has_data = np.isfinite(probabilities[0])
    return np.where(has_data, np.nan_to_num(probabilities).argmax(axis=0) + 1, NO_CLASS).astype(np.uint8)


def _describe(drafts: Mapping[str, Path], classes: Sequence[str], tags: Mapping[str, str]) -> None:
    import rasterio

    with rasterio.open(drafts["probabilities"], "r+") as dataset:
        dataset.descriptions = (*classes, "confidence")
        dataset.scales = (STEP,) * dataset.count
        dataset.offsets = (0.0,) * dataset.count
        dataset.update_tags(**tags)
    with rasterio.open(drafts["classes"], "r+") as dataset:
        dataset.descriptions = ("most probable class",)
        colours = {number: (*colour, 255) for number, colour in enumerate(class_colours(classes), start=1)}
        dataset.write_colormap(1, {NO_CLASS: (0, 0, 0, 0), **colours})
        dataset.update_tags(**tags)


def _optimise(draft: Path, out: Path, resampling: str) -> None:
    import rasterio.shutil

    rasterio.shutil.copy(
        draft,
        out,
        driver="COG",
        blocksize=_BLOCK_PX,
        compress="DEFLATE",
        predictor="YES",
        overview_resampling=resampling,
        bigtiff="IF_SAFER",
    )
    draft.unlink()


def _write_category_names(path: Path, classes: Sequence[str]) -> None:
    """Beside the file, where GDAL and QGIS look for them: GeoTIFF itself has no place for names."""
    root = ET.Element("PAMDataset")
    names = ET.SubElement(ET.SubElement(root, "PAMRasterBand", band="1"), "CategoryNames")
    for name in ("no data", *classes):
        ET.SubElement(names, "Category").text = name
    ET.indent(root)
    path.with_name(f"{path.name}.aux.xml").write_text(ET.tostring(root, encoding="unicode"), encoding="utf-8")
