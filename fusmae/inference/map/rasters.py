"""The files of a map: a cloud-optimized GeoTIFF per layer, the scene for the picture, and the STAC item beside them."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.shutil import copy
from rasterio.warp import transform_bounds, transform_geom
from rasterio.windows import Window

from fusmae.inference.map.layers import NO_CLASS, Layer
from fusmae.inference.scene.grid import Grid
from fusmae.rasters.palette import class_colours

_BLOCK_PX = 256
_PLAIN = {"tiled": True, "blockxsize": _BLOCK_PX, "blockysize": _BLOCK_PX, "BIGTIFF": "IF_SAFER"}
_CACHE_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Rows:
    """Some rows of a map's cells."""

    first: int  # number of the first row, from 0
    bands: NDArray[Any]  # `[bands, rows, columns]`, pixels of the map's layers as stored, one layer after another
    look: NDArray[np.float32]  # `[1 or 3, h, w]`, the scene in these rows, in pixels of any side; NaN for no data


@dataclass
class Contents:
    """What a map holds."""

    # `[K + 1]`, number of cells by class number; of a map of values `[2]`, number of cells without and with one.
    counts: NDArray[np.int64]
    low: float = np.inf  # lowest value
    high: float = -np.inf  # highest value
    total: float = 0.0  # sum of the values

    @property
    def mean(self) -> float | None:
        """Mean of the values; None where there are none."""
        return self.total / int(self.counts[1]) if self.low <= self.high else None

    def add(self, layer: Layer, pixels: NDArray[Any]) -> None:
        """Count pixels of a layer, unless it is one of probabilities."""
        if layer.classes:
            self.counts += np.bincount(pixels.ravel(), minlength=len(self.counts))
        elif layer.name == "values":
            values = pixels[np.isfinite(pixels)]
            self.counts += [pixels.size - values.size, values.size]
            if values.size:
                self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
                self.total += float(values.sum(dtype=np.float64))


@dataclass
class Rasters:
    """The rasters of a map."""

    paths: dict[str, Path]  # path of each layer's raster, by the layer's name
    look: Path  # path of the raster with the scene, float32
    contents: Contents


def write_rasters(
    folder: Path, name: str, grid: Grid, rows: Iterable[Rows], layers: Sequence[Layer], tags: Mapping[str, str]
) -> Rasters:
    """Write the rasters of a map, whose rows come from top to bottom, into a folder, beside their drafts.

    Raises:
        rasterio.errors.RasterioError: the disk is full.
    """
    paths = {layer.name: folder / f"draft-{layer.name}.tif" for layer in layers}
    found = Rasters(paths, folder / "draft-look.tif", Contents(np.zeros(_num_counts(layers), np.int64)))
    options = {"blocksize": _BLOCK_PX, "compress": "DEFLATE", "predictor": "YES", "bigtiff": "IF_SAFER"}
    # By default GDAL keeps as much as a twentieth of the machine's memory.
    with rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES):
        _write_drafts(found, grid, rows, layers, tags)
        for layer in layers:
            if layer.suffix is not None:
                draft, path = paths[layer.name], folder / f"{name}{layer.suffix}.tif"
                copy(draft, path, driver="COG", overview_resampling=layer.resampling, **options)
                draft.unlink()
                paths[layer.name] = path
                if layer.classes:
                    _write_category_names(path, layer.classes)
    return found


def _num_counts(layers: Sequence[Layer]) -> int:
    """Number of kinds of cells: no data, and each class or a value."""
    return 1 + max(1, *(len(layer.classes) for layer in layers))


def _write_drafts(
    rasters: Rasters, grid: Grid, rows: Iterable[Rows], layers: Sequence[Layer], tags: Mapping[str, str]
) -> None:
    """Write the rasters row by row, and count what they hold."""
    rows = iter(rows)
    first = next(rows)
    look_m = first.bands.shape[1] * grid.cell_m // first.look.shape[1]

    def created(path: Path, side_m: int, **profile: Any) -> Any:
        height, width = grid.height_m // side_m, grid.width_m // side_m
        place = {"crs": grid.crs, "transform": grid.transform(side_m), "height": height, "width": width}
        return rasterio.open(path, "w", driver="GTiff", **place, **profile, **_PLAIN)

    with ExitStack() as opened:
        profile = {"count": len(first.look), "dtype": "float32", "nodata": np.nan}
        look = opened.enter_context(created(rasters.look, look_m, **profile))
        drafts = [
            opened.enter_context(created(rasters.paths[layer.name], grid.cell_m, **layer_profile(layer)))
            for layer in layers
        ]
        for layer, draft in zip(layers, drafts, strict=True):
            describe_raster(draft, layer, tags)
        for part in chain([first], rows):
            stop = 0
            for layer, draft in zip(layers, drafts, strict=True):
                start, stop = stop, stop + len(layer.bands)
                pixels = part.bands[start:stop]
                draft.write(pixels, window=Window(0, part.first, draft.width, pixels.shape[1]))
                rasters.contents.add(layer, pixels)
            top = part.first * grid.cell_m // look_m
            look.write(part.look, window=Window(0, top, look.width, part.look.shape[1]))


def layer_profile(layer: Layer) -> dict[str, Any]:
    """Bands, type and nodata with which a layer's raster is created."""
    profile = {"count": len(layer.bands), "dtype": layer.dtype, "nodata": layer.nodata}
    # Otherwise three or four bands would be the colours of a picture.
    return profile if layer.classes else {**profile, "photometric": "MINISBLACK", "interleave": "band"}


def describe_raster(dataset: Any, layer: Layer, tags: Mapping[str, str]) -> None:
    """Write what a raster shows into it."""
    dataset.descriptions = layer.bands
    if layer.scale is not None:
        dataset.scales, dataset.offsets = (layer.scale,) * len(layer.bands), (0.0,) * len(layer.bands)
    if layer.unit:
        dataset.units = (layer.unit,) * len(layer.bands)
    if layer.classes:
        colours = {number: (*colour, 255) for number, colour in enumerate(class_colours(layer.classes), start=1)}
        dataset.write_colormap(1, {NO_CLASS: (0, 0, 0, 0), **colours})
    dataset.update_tags(**tags, **layer.tags)


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
)
_OF_CLASSES = "https://stac-extensions.github.io/classification/v2.0.0/schema.json"


def stac_item(
    name: str,
    grid: Grid,
    layers: Sequence[Layer],
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
        stac_extensions=[*_EXTENSIONS, *([_OF_CLASSES] if any(layer.classes for layer in layers) else [])],
        assets=_assets(name, layers),
    )
    item.add_links([Link(RelType.DERIVED_FROM, source, "application/geo+json") for source in sources])
    found: dict[str, Any] = item.to_dict(include_self_link=False, transform_hrefs=False)
    return found


def _assets(name: str, layers: Sequence[Layer]) -> dict[str, Any]:
    from pystac import Asset

    found = {
        layer.name: Asset(f"./{name}{layer.suffix}.tif", layer.title, None, _COG, ["data"], _fields(layer))
        for layer in layers
        if layer.suffix is not None
    }
    return found | {"overview": Asset(f"./{name}.png", "quick look", None, "image/png", ["overview", "thumbnail"])}


def _fields(layer: Layer) -> dict[str, Any]:
    """What an asset says about the pixels of its raster."""
    stored: dict[str, Any] = {"data_type": layer.dtype, "nodata": "nan" if np.isnan(layer.nodata) else layer.nodata}
    if layer.classes:
        return {"raster:bands": [stored], "classification:classes": _legend(layer.classes)}
    if layer.scale is not None:
        stored |= {"scale": layer.scale, "offset": 0.0}
    if layer.unit:
        stored |= {"unit": layer.unit}
    return {"raster:bands": [{"name": band, **stored} for band in layer.bands]}


def _legend(classes: Sequence[str]) -> list[dict[str, Any]]:
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
    return legend
