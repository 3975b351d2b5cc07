"""GeoTIFFs as GDAL writes them, but many times faster: GDAL writes one file per kind, which serves as a template."""

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Any coordinates that GDAL would not write elsewhere in a file by itself: the template is searched for them.
_WEST, _NORTH = 123456.0, 7654320.0


@dataclass(frozen=True)
class Kind:
    """Properties that files of one kind have in common.

    Attributes:
        dtype: data type of the pixels.
        side_px: height and width in pixels.
        gsd_m: size of a pixel in metres.
        epsg: EPSG code of the CRS.
        nodata: nodata value that the file states; None for none.
        is_deflated: whether pixels are compressed, as differences along a row.
    """

    dtype: str
    side_px: int
    gsd_m: float
    epsg: int
    nodata: int | None
    is_deflated: bool = False


def geotiff(kind: Kind, pixels: NDArray[Any], west: float, north: float) -> bytes:
    """Return the bytes of a GeoTIFF with one band and the tag SYNTHETIC=YES.

    Args:
        kind: properties of the file.
        pixels: values of the band, `[h, w]`.
        west: easting of the upper left corner in metres.
        north: northing of the upper left corner in metres.
    """
    if kind.is_deflated:
        return _by_gdal(kind, pixels, west, north)
    template, pixels_at, corner_at = _template(kind)
    data = bytearray(template)
    data[corner_at : corner_at + 16] = struct.pack("<2d", west, north)
    raw = np.ascontiguousarray(pixels, dtype=kind.dtype).tobytes()
    data[pixels_at : pixels_at + len(raw)] = raw
    return bytes(data)


@lru_cache(maxsize=64)
def _template(kind: Kind) -> tuple[bytes, int, int]:
    """Return a file of this kind, and the positions in bytes of its pixels and of its corner's coordinates."""
    pixels = np.random.default_rng(0).integers(1, 60_000, (kind.side_px, kind.side_px)).astype(kind.dtype)
    data = _by_gdal(kind, pixels, _WEST, _NORTH)
    places = []
    for wanted in (pixels.tobytes(), struct.pack("<2d", _WEST, _NORTH)):
        if data.count(wanted) != 1:
            raise AssertionError("GDAL lays such a file out in another way than this module knows")
        places.append(data.index(wanted))
    return data, places[0], places[1]


def _by_gdal(kind: Kind, pixels: NDArray[Any], west: float, north: float) -> bytes:
    from rasterio import Affine
    from rasterio.io import MemoryFile

    # As in the real dataset, only reference maps are compressed.
    options = {"compress": "deflate", "predictor": 2} if kind.is_deflated else {}
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            height=kind.side_px,
            width=kind.side_px,
            count=1,
            dtype=kind.dtype,
            crs=f"EPSG:{kind.epsg}",
            transform=Affine(kind.gsd_m, 0, west, 0, -kind.gsd_m, north),
            nodata=kind.nodata,
            **options,
        ) as dataset:
            dataset.update_tags(SYNTHETIC="YES")
            dataset.write(np.ascontiguousarray(pixels, dtype=kind.dtype), 1)
        memory.seek(0)
        return bytes(memory.read())
