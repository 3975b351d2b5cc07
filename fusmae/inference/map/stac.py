"""The STAC item of a map: what it holds, where it lies, and which model made it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from fusmae.inference.map.colours import class_colours
from fusmae.inference.map.rasters import NO_CLASS, NODATA, STEP
from fusmae.inference.scene.grid import Grid

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
