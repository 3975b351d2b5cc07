"""GeoTIFFs as GDAL writes them, many times as fast: GDAL makes one of a kind, the others are stamped from it."""

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Any that GDAL would not write by itself elsewhere in a file: they are looked for in the template.
_WEST, _NORTH = 123456.0, 7654320.0


@dataclass(frozen=True)
class Kind:
    """What files have in common.

    Attributes:
        dtype: of the pixels.
        side_px: height and width.
        gsd_m: size of a pixel.
        epsg: code of the CRS.
        nodata: as the file states it; None for none.
        is_deflated: whether pixels are compressed, with differences along a row.
    """

    dtype: str
    side_px: int
    gsd_m: float
    epsg: int
    nodata: int | None
    is_deflated: bool = False


def geotiff(kind: Kind, pixels: NDArray[Any], west: float, north: float) -> bytes:
    """The bytes of a GeoTIFF with one band and the tag SYNTHETIC=YES.

    Args:
        kind: what the file is like.
        pixels: `[h, w]`.
        west: easting of the upper left corner in metres.
        north: its northing.
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
    """A file of this kind, where in it its pixels begin and where its corner stands."""
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

    # As in the real files, the reference map alone is compressed.
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
