"""The files of a map: cloud-optimized GeoTIFFs (probabilities, top class, picture) and the STAC item beside them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
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


_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_EXTENSIONS = (
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/raster/v1.1.0/schema.json",
    "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
)


def stac_item(
    name: str, grid: Grid, classes: Sequence[str], taken: datetime, properties: Mapping[str, Any]
) -> dict[str, Any]:
    """The item as JSON values; its assets lie beside it.

    Args:
        name: name of the map's file without its ending.
        grid: grid of the map.
        classes: names of the classes, in order.
        taken: date of the scene.
        properties: properties besides those of the projection.
    """
    import pystac
    from rasterio.warp import transform_bounds, transform_geom

    height_m, width_m = grid.height_m, grid.width_m
    left, bottom, right, top = box = (grid.left, grid.top - height_m, grid.left + width_m, grid.top)
    ring = [[left, bottom], [right, bottom], [right, top], [left, top], [left, bottom]]
    item = pystac.Item(
        id=name,
        geometry=transform_geom(grid.crs, "EPSG:4326", {"type": "Polygon", "coordinates": [ring]}, precision=7),
        bbox=[round(side, 7) for side in transform_bounds(grid.crs, "EPSG:4326", *box)],
        datetime=taken,
        properties={
            "gsd": grid.cell_m,
            "proj:shape": list(grid.shape),
            "proj:transform": list(grid.transform(grid.cell_m))[:6],
            "proj:bbox": list(box),
            **_crs_fields(grid.crs),
            **properties,
        },
        stac_extensions=list(_EXTENSIONS),
    )
    for key, asset in _assets(name, classes).items():
        item.add_asset(key, asset)
    found: dict[str, Any] = item.to_dict(include_self_link=False, transform_hrefs=False)
    return found


def _crs_fields(crs: Any) -> dict[str, Any]:
    code = crs.to_epsg()
    return {"proj:code": f"EPSG:{code}"} if code else {"proj:code": None, "proj:wkt2": crs.to_wkt(version="WKT2_2019")}


def _assets(name: str, classes: Sequence[str]) -> dict[str, Any]:
    import pystac

    scaled = {"data_type": "uint8", "nodata": NODATA, "scale": STEP, "offset": 0.0}
    bands = [{"name": label, **scaled} for label in (*classes, "confidence")]
    legend = [{"value": NO_CLASS, "name": "no_data", "description": "no data", "nodata": True}]
    legend += [
        {
            "value": number,
            "name": "_".join("".join(c if c.isalnum() else " " for c in label).lower().split()),
            "description": label,
            "color_hint": "{:02X}{:02X}{:02X}".format(*colour),
        }
        for number, (label, colour) in enumerate(zip(classes, class_colours(classes), strict=True), start=1)
    ]
    return {
        "probabilities": pystac.Asset(
            f"./{name}.tif",
            title="probability of each class, and confidence",
            media_type=_COG,
            roles=["data"],
            extra_fields={"raster:bands": bands},
        ),
        "classes": pystac.Asset(
            f"./{name}_classes.tif",
            title="most probable class",
            media_type=_COG,
            roles=["data"],
            extra_fields={
                "raster:bands": [{"data_type": "uint8", "nodata": NO_CLASS}],
                "classification:classes": legend,
            },
        ),
        "overview": pystac.Asset(
            f"./{name}.png", title="quick look", media_type="image/png", roles=["overview", "thumbnail"]
        ),
    }
