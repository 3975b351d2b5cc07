"""The files of a map: cloud-optimized GeoTIFFs (probabilities, top class, picture) and the STAC item beside them."""

import colorsys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.shutil import copy
from rasterio.warp import transform_bounds, transform_geom
from rasterio.windows import Window

from fusmae.inference.map.blend import Rows, confidence
from fusmae.inference.scene.grid import Grid

STEP = 0.004
"""Step of stored probabilities and confidence, which are whole multiples of it: 250 is 1."""
NODATA = 255
NO_CLASS = 0
_BLOCK_PX = 256
_PLAIN = {"tiled": True, "blockxsize": _BLOCK_PX, "blockysize": _BLOCK_PX, "BIGTIFF": "IF_SAFER"}

Colour = tuple[int, int, int]

# BigEarthNet's 19 classes. Colours follow the well-known legend of CORINE land cover; where that has shades of one
# colour, they are set further apart.
_KNOWN: dict[str, Colour] = {
    "Urban fabric": (230, 0, 77),
    "Industrial or commercial units": (150, 60, 200),
    "Arable land": (255, 255, 140),
    "Permanent crops": (242, 166, 77),
    "Pastures": (200, 230, 60),
    "Complex cultivation patterns": (255, 215, 0),
    "Land principally occupied by agriculture, with significant areas of natural vegetation": (214, 176, 90),
    "Agro-forestry areas": (190, 150, 130),
    "Broad-leaved forest": (100, 220, 60),
    "Coniferous forest": (0, 110, 40),
    "Mixed forest": (40, 165, 70),
    "Natural grassland and sparsely vegetated areas": (170, 215, 160),
    "Moors, heathland and sclerophyllous vegetation": (120, 140, 40),
    "Transitional woodland, shrub": (90, 120, 100),
    "Beaches, dunes, sands": (235, 225, 205),
    "Inland wetlands": (140, 120, 230),
    "Coastal wetlands": (190, 180, 255),
    "Inland waters": (70, 190, 245),
    "Marine waters": (20, 70, 190),
}
_GOLDEN_ANGLE = 0.381966


@dataclass
class Rasters:
    """The rasters of a map."""

    probabilities: Path  # path of the raster with one band per class, then confidence
    classes: Path  # path of the raster with the number of the most probable class, from 1; 0 for nodata
    look: Path  # path of the raster with the scene, float32, with one or more pixels along a cell's side
    counts: NDArray[np.int64]  # `[K + 1]`, number of cells by class number


def write_rasters(
    folder: Path, name: str, grid: Grid, rows: Iterable[Rows], classes: Sequence[str], tags: Mapping[str, str]
) -> Rasters:
    """Write the rasters of a map, whose rows come from top to bottom, into a folder, beside their drafts.

    Raises:
        rasterio.errors.RasterioError: the disk is full.
    """
    drafts = {kind: folder / f"draft-{kind}.tif" for kind in ("probabilities", "classes", "look")}
    counts = _write_drafts(drafts, grid, rows, classes, tags)
    found = Rasters(folder / f"{name}.tif", folder / f"{name}_classes.tif", drafts["look"], counts)
    options = {"blocksize": _BLOCK_PX, "compress": "DEFLATE", "predictor": "YES", "bigtiff": "IF_SAFER"}
    for kind, resampling in (("probabilities", "AVERAGE"), ("classes", "MODE")):
        copy(drafts[kind], getattr(found, kind), driver="COG", overview_resampling=resampling, **options)
        drafts[kind].unlink()
    _write_category_names(found.classes, classes)
    return found


def _write_drafts(
    drafts: Mapping[str, Path], grid: Grid, rows: Iterable[Rows], classes: Sequence[str], tags: Mapping[str, str]
) -> NDArray[np.int64]:
    """Write the rasters row by row; returns the number of cells by class number."""
    (height, width), num_bands = grid.shape, len(classes) + 1
    counts = np.zeros(num_bands, np.int64)
    rows = iter(rows)
    first = next(rows)
    # Number of the look's pixels along a cell's side.
    scale = first.look.shape[1] // first.probabilities.shape[1]
    colours = {number: (*colour, 255) for number, colour in enumerate(class_colours(classes), start=1)}

    def created(kind: str, scale: int = 1, **profile: Any) -> Any:
        place = {"transform": grid.transform(grid.cell_m / scale), "height": height * scale, "width": width * scale}
        return rasterio.open(drafts[kind], "w", driver="GTiff", crs=grid.crs, **place, **profile, **_PLAIN)

    with (
        created("probabilities", count=num_bands, dtype="uint8", nodata=NODATA, photometric="MINISBLACK") as every,
        created("classes", count=1, dtype="uint8", nodata=NO_CLASS) as top,
        created("look", scale, count=len(first.look), dtype="float32", nodata=np.nan) as look,
    ):
        every.descriptions = (*classes, "confidence")
        every.scales, every.offsets = (STEP,) * num_bands, (0.0,) * num_bands
        every.update_tags(**tags)
        top.descriptions = ("most probable class",)
        top.write_colormap(1, {NO_CLASS: (0, 0, 0, 0), **colours})
        top.update_tags(**tags)
        for part in (first, *rows):
            window = Window(0, part.first, width, part.probabilities.shape[1])
            top_class = np.nan_to_num(part.probabilities).argmax(axis=0) + 1
            numbers = np.where(np.isfinite(part.probabilities[0]), top_class, NO_CLASS).astype(np.uint8)
            every.write(_stored(part.probabilities), window=window)
            top.write(numbers, 1, window=window)
            look.write(part.look, window=Window(0, part.first * scale, width * scale, part.look.shape[1]))
            counts += np.bincount(numbers.ravel(), minlength=num_bands)
    return counts


def _stored(probabilities: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Probabilities and their confidence as stored, `[K + 1, rows, columns]` in multiples of `STEP`."""
    values = np.concatenate([probabilities, confidence(probabilities)[None]])
    return np.where(np.isnan(values), NODATA, np.rint(np.nan_to_num(values) / STEP)).astype(np.uint8)


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
    name: str,
    grid: Grid,
    classes: Sequence[str],
    taken: datetime,
    properties: Mapping[str, Any],
    sources: Sequence[str] = (),
) -> dict[str, Any]:
    """The item as JSON values, with properties besides those of the projection; its assets lie beside it.

    `sources` are addresses or files of the STAC items that the map was made from; the item links to them.
    """
    from pystac import Item, Link, RelType

    left, bottom, right, top = box = (grid.left, grid.top - grid.height_m, grid.left + grid.width_m, grid.top)
    ring = [[left, bottom], [right, bottom], [right, top], [left, top], [left, bottom]]
    code = grid.crs.to_epsg()
    item = Item(
        id=name,
        geometry=transform_geom(grid.crs, "EPSG:4326", {"type": "Polygon", "coordinates": [ring]}, precision=7),
        bbox=[round(side, 7) for side in transform_bounds(grid.crs, "EPSG:4326", *box)],
        datetime=taken,
        properties={
            "gsd": grid.cell_m,
            "proj:shape": list(grid.shape),
            "proj:transform": list(grid.transform(grid.cell_m))[:6],
            "proj:bbox": list(box),
            "proj:code": f"EPSG:{code}" if code else None,
            **({} if code else {"proj:wkt2": grid.crs.to_wkt(version="WKT2_2019")}),
            **properties,
        },
        stac_extensions=list(_EXTENSIONS),
        assets=_assets(name, classes),
    )
    item.add_links([Link(RelType.DERIVED_FROM, source, "application/geo+json") for source in sources])
    found: dict[str, Any] = item.to_dict(include_self_link=False, transform_hrefs=False)
    return found


def _assets(name: str, classes: Sequence[str]) -> dict[str, Any]:
    from pystac import Asset

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
    of_classes = {"raster:bands": [{"data_type": "uint8", "nodata": NO_CLASS}], "classification:classes": legend}
    title = "probability of each class, and confidence"
    return {
        "probabilities": Asset(f"./{name}.tif", title, None, _COG, ["data"], {"raster:bands": bands}),
        "classes": Asset(f"./{name}_classes.tif", "most probable class", None, _COG, ["data"], of_classes),
        "overview": Asset(f"./{name}.png", "quick look", None, "image/png", ["overview", "thumbnail"]),
    }


def class_colours(classes: Sequence[str]) -> list[Colour]:
    """A colour for each class, in their order; classes that are not BigEarthNet's get hues that are far apart."""
    return [_KNOWN.get(name) or _spread(number) for number, name in enumerate(classes)]


def _spread(number: int) -> Colour:
    # Two neighbours differ in brightness, too, for people who can't tell some hues apart.
    value = (0.95, 0.7)[number % 2]
    red, green, blue = colorsys.hsv_to_rgb(number * _GOLDEN_ANGLE % 1, 0.65, value)
    return round(red * 255), round(green * 255), round(blue * 255)
