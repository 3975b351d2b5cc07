"""Writes a map's rasters: cloud-optimized GeoTIFFs of probabilities and of the top class, and one for the picture."""

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
"""Step of stored probabilities and confidence, which are whole multiples of it: 250 is 1."""
NODATA = 255
NO_CLASS = 0
_BLOCK_PX = 256
_PLAIN = {"tiled": True, "blockxsize": _BLOCK_PX, "blockysize": _BLOCK_PX, "BIGTIFF": "IF_SAFER"}


@dataclass
class Rasters:
    """The rasters of a map.

    Attributes:
        probabilities: path of the raster with one band per class, then confidence.
        classes: path of the raster with the number of the most probable class, from 1; 0 for nodata.
        look: path of the raster with the scene, float32, with one or more pixels along a cell's side.
        counts: `[K + 1]`, number of cells by class number.
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
        folder: folder for the files and their drafts.
        name: name of the map's file without its ending.
        grid: grid of the map.
        rows: rows of the map from top to bottom.
        classes: names of the classes, in the order of the probabilities.
        tags: facts that are written into the files.

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
    # Number of the look's pixels along a cell's side.
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
    """Probabilities and their confidence as stored, `[K + 1, rows, columns]` in multiples of `STEP`."""
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
    """Write names of classes beside the file, where GDAL and QGIS look for them: GeoTIFF itself can't hold them."""
    root = ET.Element("PAMDataset")
    names = ET.SubElement(ET.SubElement(root, "PAMRasterBand", band="1"), "CategoryNames")
    for name in ("no data", *classes):
        ET.SubElement(names, "Category").text = name
    ET.indent(root)
    path.with_name(f"{path.name}.aux.xml").write_text(ET.tostring(root, encoding="unicode"), encoding="utf-8")
