"""A reader, without GDAL, of the one kind of GeoTIFF in which BigEarthNet is published.

Every band is a small uncompressed file. GDAL spends nine tenths of its time on what such a file does not have
(siblings, overviews, a look-up of the CRS), which adds up to hours for half a million pairs. Files that are not exactly
of this kind are left to GDAL.
"""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FORMATS = {3: "H", 4: "I", 12: "d"}
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _OFFSETS, _SAMPLES, _COUNTS = 256, 257, 258, 259, 273, 277, 279
_PLANAR, _SAMPLE_FORMAT, _PIXEL_SCALE, _TIE_POINT, _GEO_KEYS = 284, 339, 33550, 33922, 34735
_FIXED = {_COMPRESSION: (1,), _SAMPLES: (1,), _PLANAR: (1,)}
# Tags that such a file may have and that change no pixel: photometric, rows per strip, text of the CRS.
_HARMLESS = frozenset({262, 278, 34736, 34737})
_METADATA, _NODATA = 42112, 42113
_CHANGES_UNITS = (b'role="scale"', b'role="offset"')
_TAGS = frozenset(
    {_WIDTH, _HEIGHT, _BITS, _OFFSETS, _COUNTS, _SAMPLE_FORMAT, _PIXEL_SCALE, _TIE_POINT, _GEO_KEYS, *_FIXED}
)
_DTYPES: dict[tuple[int, int], np.dtype[Any]] = {(16, 1): np.dtype("<u2"), (32, 3): np.dtype("<f4")}
_PROJECTED, _RASTER_TYPE, _EPSG, _LINEAR_UNITS = 1024, 1025, 3072, 3076
_UTM_EPSG = frozenset({*range(32601, 32661), *range(32701, 32761)})
_METRE = 9001

_Tags = dict[int, tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class BandRaster:
    """One band and the ground that it covers.

    Attributes:
        pixels: values `[h, w]` in the file's own type.
        crs: coordinate reference system, such as "EPSG:32633".
        bounds: left, bottom, right, top in the CRS's units.
        nodata: number that the file states as nodata; None where it states none.
    """

    pixels: NDArray[Any]
    crs: str
    bounds: tuple[float, ...]
    nodata: float | None = None


def plain_raster(data: bytes) -> BandRaster | None:
    """Read a file's bytes; None where the file is anything other than one plain band in a UTM zone."""
    try:
        tags = _read_tags(data)
        return None if tags is None else _raster(data, tags)
    except (struct.error, LookupError, ValueError):  # truncated, or without a tag that every such file has
        return None


def _read_tags(data: bytes) -> _Tags | None:
    if data[:4] != b"II*\0":
        return None
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    tags: _Tags = {}
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, length = struct.unpack_from("<HHI", data, entry)
        if tag in _HARMLESS:
            continue
        if tag in (_METADATA, _NODATA):
            (at,) = struct.unpack_from("<I", data, entry + 8)
            text = data[entry + 8 : entry + 8 + length] if length <= 4 else data[at : at + length]
            if tag == _METADATA and any(part in text for part in _CHANGES_UNITS):
                return None
            if tag == _NODATA:
                tags[_NODATA] = (float(text.rstrip(b"\0 ")),)
            continue
        if tag not in _TAGS or kind not in _FORMATS:
            return None
        values = struct.Struct(f"<{length}{_FORMATS[kind]}")
        at = entry + 8 if values.size <= 4 else struct.unpack_from("<I", data, entry + 8)[0]
        tags[tag] = values.unpack_from(data, at)
    (following,) = struct.unpack_from("<I", data, start + 2 + 12 * count)
    is_plain = following == 0 and all(tags.get(tag, value) == value for tag, value in _FIXED.items())
    return tags if is_plain else None


def _raster(data: bytes, tags: _Tags) -> BandRaster | None:
    (width,), (height,) = tags[_WIDTH], tags[_HEIGHT]
    dtype = _DTYPES.get((tags[_BITS][0], tags[_SAMPLE_FORMAT][0]))
    crs = _crs(tags[_GEO_KEYS])
    tie, scale = tags[_TIE_POINT], tags[_PIXEL_SCALE]
    if dtype is None or crs is None or len(tie) != 6 or len(scale) != 3 or min(scale[:2]) <= 0:
        return None
    strips = [data[at : at + length] for at, length in zip(tags[_OFFSETS], tags[_COUNTS], strict=False)]
    pixels = b"".join(strips)
    if len(pixels) != width * height * dtype.itemsize:
        return None
    left, top = tie[3] - tie[0] * scale[0], tie[4] + tie[1] * scale[1]
    bounds = (left, top - height * scale[1], left + width * scale[0], top)
    # A copy, because an array over a bytes object is read-only.
    array = np.frombuffer(pixels, dtype).reshape(height, width).copy()
    return BandRaster(array, crs, bounds, tags.get(_NODATA, (None,))[0])


def _crs(keys: tuple[int, ...]) -> str | None:
    """Return the CRS that GeoTIFF keys name; None where it isn't a UTM zone in metres with pixels as areas."""
    stated = {keys[at]: keys[at + 3] for at in range(4, len(keys) - 3, 4) if keys[at + 1] == 0}
    is_plain = (stated.get(_PROJECTED), stated.get(_RASTER_TYPE)) == (1, 1)
    epsg = stated.get(_EPSG)
    if not is_plain or epsg not in _UTM_EPSG or stated.get(_LINEAR_UNITS, _METRE) != _METRE:
        return None
    return f"EPSG:{epsg}"
