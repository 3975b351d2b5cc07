"""BigEarthNet's layout: one folder per patch, in it one GeoTIFF per band, named `<folder>_<band>.tif`.

Every band is a small uncompressed file. GDAL spends nine tenths of its time on what such a file does not have
(siblings, overviews, a look-up of the CRS), which adds up to hours for half a million pairs. So files of exactly this
kind are read without GDAL, and all others by GDAL.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS

from fusmae.data.index import Pair
from fusmae.data.pixels import NO_CLASS
from fusmae.errors import PairError
from fusmae.modalities import BIGEARTHNET, modality_inputs
from fusmae.rasters.geometry import is_turned
from fusmae.sources.patches import v2
from fusmae.sources.patches.nomenclature import CLASS_OF_CODE
from fusmae.sources.patches.places import PATCH_M
from fusmae.sources.shared.raster import Raster, check_same_ground, read_raster, require_pixels

# Advice to the user where a file is absent, damaged or of another kind.
_RESTORE = (
    "restore the files from the dataset's archives, or remove the folder of all patches and `dvc repro -f -s fetch`"
)
_TEXT = 2
_FORMATS = {_TEXT: "s", 3: "H", 4: "I", 12: "d"}
_WIDTH, _HEIGHT, _BITS, _OFFSETS, _COUNTS, _SAMPLE_FORMAT = 256, 257, 258, 273, 279, 339
_PIXEL_SCALE, _TIE_POINT, _GEO_KEYS, _METADATA, _NODATA = 33550, 33922, 34735, 42112, 42113
_TAGS = {_WIDTH, _HEIGHT, _BITS, _OFFSETS, _COUNTS, _SAMPLE_FORMAT, _PIXEL_SCALE, _TIE_POINT, _GEO_KEYS}
# No compression, one sample per pixel, planes one after the other.
_FIXED = {259: (1,), 277: (1,), 284: (1,)}
# Tags that such a file may have and that change no pixel: photometric, rows per strip, text of the CRS.
_HARMLESS = {262, 278, 34736, 34737}
_DTYPES: dict[tuple[int, int], np.dtype[Any]] = {(16, 1): np.dtype("<u2"), (32, 3): np.dtype("<f4")}
_PROJECTED, _RASTER_TYPE, _EPSG, _LINEAR_UNITS, _METRE = 1024, 1025, 3072, 3076, 9001
_UTM_EPSG = {*range(32601, 32661), *range(32701, 32761)}

_Tags = dict[int, tuple[Any, ...]]


def read_patches(raw: Path, pair: Pair) -> dict[str, NDArray[Any]]:
    """Read all modalities of a pair, which are folders in `raw`; see `read_pair_folders` and `validate_bands`."""
    folders = {modality: raw / folder for modality, folder in pair.files.items()}
    return validate_bands(pair.key, read_pair_folders(pair.key, folders))


def validate_bands(key: str, bands: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return a pair's bands in channel order after checking that all are present, with the right size and type.

    These are float32 dB `[120, 120]` for S1, and uint16 `[120, 120]`, `[60, 60]` or `[20, 20]` for S2.

    Raises:
        PairError: a band is missing, or of another size or type.
    """
    validated = {}
    for item in modality_inputs(BIGEARTHNET, PATCH_M):
        for band in item.bands:
            if band not in bands:
                problem, expected = f"Pair {key} has no band {band}.", f"all of {item.modality}'s bands"
                raise PairError("incomplete", problem, got=sorted(bands), expected=expected, hint=_RESTORE)
            shape, dtype = (item.side_px, item.side_px), item.unit.dtype
            require_pixels(key, f"band {band}", bands[band], shape, dtype, units=item.unit.noun, hint=_RESTORE)
            validated[band] = bands[band]
    return validated


def read_pair_folders(key: str, folders: Mapping[str, Path]) -> dict[str, NDArray[Any]]:
    """Read all modalities of a pair from their folders: pixels `[h, w]` by band, in the files' own type and resolution.

    Raises:
        PairError: a modality or band is missing or cannot be read, or the bands don't cover the same ground.
    """
    missing = [f"{modality}: {folder}" for modality, folder in folders.items() if not folder.is_dir()]
    if missing:
        problem = f"Pair {key} lacks a side: {'; '.join(missing)} is absent."
        raise PairError("incomplete", problem, expected=list(folders), hint=_RESTORE)
    bands = {
        band: read_band(folder / f"{folder.name}_{band}.tif", key)
        for modality, folder in folders.items()
        for band in BIGEARTHNET[modality].bands
    }
    check_same_ground(key, bands, hint=_RESTORE)
    return {band: raster.pixels[0] for band, raster in bands.items()}


def read_band(path: Path, key: str) -> Raster:
    """Read one file of a patch; pixels without data become NaN in floating-point files and 0 in integer files.

    Raises:
        PairError: the file is absent, cannot be read, is not one band with a georeference, or states a scale.
    """
    raster = plain_raster(path)
    if raster is None:
        # GDAL also describes best what is wrong with a damaged file.
        raster = read_raster(path, key, hint=_RESTORE, units="DN")
        if len(raster.names) != 1 or is_turned(raster.transform):
            got = f"{len(raster.names)} bands, transform {tuple(raster.transform)[:6]}"
            raise PairError("georeference", f"Pair {key}: {path} is not one band, north up.", got=got, hint=_RESTORE)
        if raster.scale:
            problem = f"Pair {key}: {path} states a scale, which no file of the dataset does."
            raise PairError("units", problem, got=raster.scale, hint=_RESTORE)
    return raster if raster.nodata is None else replace(raster, pixels=raster.filled)


def plain_raster(path: Path) -> Raster | None:
    """Read a file without GDAL; None where it is absent or anything other than one plain band in a UTM zone."""
    try:
        data = path.read_bytes()
        tags = _read_tags(data)
        return None if tags is None else _raster(path, data, tags)
    except (OSError, struct.error, LookupError, ValueError):  # absent, truncated, or without a tag that such files have
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
        if (kind == _TEXT) != (tag in (_METADATA, _NODATA)):
            return None
        values = struct.Struct(f"<{length}{_FORMATS[kind]}")
        at = entry + 8 if values.size <= 4 else struct.unpack_from("<I", data, entry + 8)[0]
        found = values.unpack_from(data, at)
        if tag == _METADATA:
            if b'role="scale"' in found[0] or b'role="offset"' in found[0]:
                return None
        elif tag == _NODATA:
            tags[_NODATA] = (float(found[0].rstrip(b"\0 ")),)
        elif tag in _TAGS or tag in _FIXED:
            tags[tag] = found
        else:
            return None
    (following,) = struct.unpack_from("<I", data, start + 2 + 12 * count)
    is_plain = following == 0 and all(tags.get(tag, value) == value for tag, value in _FIXED.items())
    return tags if is_plain else None


def _raster(path: Path, data: bytes, tags: _Tags) -> Raster | None:
    (width,), (height,) = tags[_WIDTH], tags[_HEIGHT]
    dtype = _DTYPES.get((tags[_BITS][0], tags[_SAMPLE_FORMAT][0]))
    epsg = _utm_epsg(tags[_GEO_KEYS])
    tie, scale = tags[_TIE_POINT], tags[_PIXEL_SCALE]
    if dtype is None or epsg is None or len(tie) != 6 or len(scale) != 3 or min(scale[:2]) <= 0:
        return None
    content = b"".join(data[at : at + length] for at, length in zip(tags[_OFFSETS], tags[_COUNTS], strict=False))
    if len(content) != width * height * dtype.itemsize:
        return None
    left, top = tie[3] - tie[0] * scale[0], tie[4] + tie[1] * scale[1]
    bounds = (left, top - height * scale[1], left + width * scale[0], top)
    # A copy, because an array over a bytes object is read-only.
    pixels = np.frombuffer(content, dtype).reshape(1, height, width).copy()
    nodata = pixels == tags[_NODATA][0] if _NODATA in tags else None
    return Raster(path, pixels, ("",), _crs(epsg), bounds, nodata)


# A data set has some dozens of zones, and a dozen files per pair.
@lru_cache
def _crs(epsg: int) -> Any:
    return CRS.from_epsg(epsg)


def _utm_epsg(keys: tuple[int, ...]) -> int | None:
    """Return the CRS that GeoTIFF keys name; None where it isn't a UTM zone in metres with pixels as areas."""
    stated = {keys[at]: keys[at + 3] for at in range(4, len(keys) - 3, 4) if keys[at + 1] == 0}
    is_plain = (stated.get(_PROJECTED), stated.get(_RASTER_TYPE), stated.get(_LINEAR_UNITS, _METRE)) == (1, 1, _METRE)
    return epsg if is_plain and (epsg := stated.get(_EPSG)) in _UTM_EPSG else None


def read_reference_map(raw: Path, pair: Pair, classes: Sequence[str]) -> NDArray[np.uint8]:
    """Read the reference map of a pair of v2: CORINE codes at 10 m, as positions in some of BigEarthNet's 19 classes.

    Returns:
        Positions in `classes`, `[120, 120]`; `NO_CLASS` where CORINE has another class.

    Raises:
        PairError: the map is absent, unreadable, in another place, or of another size or type.
    """
    positions: NDArray[np.uint8] = _positions(tuple(classes))[read_map_file(raw, pair, "reference_map", np.uint16)]
    return positions


def read_map_file(raw: Path, pair: Pair, name: str, dtype: Any) -> NDArray[Any]:
    """Read a pair's map `<patch>_<name>.tif` at 10 m, which lies in v2's folder of maps: `[120, 120]` of a type.

    Raises:
        PairError: the map is absent, unreadable, in another place, or of another size or type.
    """
    s2 = Path(pair.files["s2"])
    path = raw / v2.MAPS_FOLDER / s2.relative_to(v2.FOLDERS["s2"]) / f"{s2.name}_{name}.tif"
    found = read_band(path, pair.key)
    # The other bands are compared with this one when the pair is read.
    ground = read_band(raw / s2 / f"{s2.name}_B02.tif", pair.key)
    check_same_ground(pair.key, {"B02": ground, name.replace("_", " "): found}, hint=_RESTORE)
    require_pixels(pair.key, str(path), found.pixels[0], (PATCH_M // 10, PATCH_M // 10), dtype, hint=_RESTORE)
    pixels: NDArray[Any] = found.pixels[0]
    return pixels


@lru_cache(maxsize=2)
def _positions(classes: tuple[str, ...]) -> NDArray[np.uint8]:
    """Return the position in `classes` by CORINE code, for every value of a uint16."""
    table = np.full(2**16, NO_CLASS, np.uint8)
    for code, name in CLASS_OF_CODE.items():
        if name in classes:
            table[code] = classes.index(name)
    return table
