"""A user's own pairs: `pairs.csv` and two folders of GeoTIFFs that name their bands; see docs/folder.md."""

import hashlib
import math
from collections.abc import Collection, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.data.index import SPLITS, Pair, Split
from fusmae.errors import PairError, SourceError
from fusmae.files import file_sha256
from fusmae.modalities import ModalityInput
from fusmae.rasters.raster_file import touched
from fusmae.runs.utf8 import composed
from fusmae.sources.folder.file_hashes import file_hashes
from fusmae.sources.folder.pairs_table import LAYOUT_HINT, TABLE, PairRow, read_pairs_table
from fusmae.sources.folder.raster_folder import absent_raster, find_raster, rasters_by_key
from fusmae.sources.shared.raster import Raster, check_same_ground, opened, read_raster, require_ground
from fusmae.sources.shared.source import Facts, no_maps

_SUFFIXES = {"s1": ("",), "s2": ("", "_20m", "_60m")}
_CELL_DEGREES = 10_000 / 111_195
_TRAIN_BELOW, _VALIDATION_BELOW = 0.70, 0.85


class FolderSource:
    """Pairs that a user provides; see `Source` for the methods and docs/folder.md for the layout.

    Args:
        classes: class names, in the order of a label vector.
        s2_offset: offset that the products add to every S2 digital number, if it was not subtracted: 1000 since
            baseline 04.00.
        inputs: arrays that a tile consists of, to check each file's extent and pixel size; empty for no such check.
    """

    name = "folder"
    map_classes: tuple[str, ...] = ()
    licence = "as its owner states"
    is_synthetic = False

    def __init__(self, classes: Sequence[str], s2_offset: int = 0, inputs: Sequence[ModalityInput] = ()) -> None:
        self.classes = tuple(composed(name) for name in classes)
        self._s2_offset = s2_offset
        self._inputs = tuple(inputs)

    def fetch(
        self, downloads: Path, raw: Path, *, mirrors: Sequence[str] = (), num_connections: int = 4
    ) -> dict[str, str]:
        """Check the layout; nothing is downloaded. Returns the table's SHA-256 and one of all rasters, by name."""
        read_pairs_table(raw / TABLE, self.classes)
        files = {side: sorted(chain(*rasters_by_key(raw / side).values())) for side in _SUFFIXES}
        for side, found in files.items():
            if not found:
                problem = f"There is no GeoTIFF in {raw / side}."
                raise SourceError(problem, expected=f"{side}/<key>.tif", hint=LAYOUT_HINT)
        rasters = [path for side in files.values() for path in side]
        hashes = file_hashes(raw, rasters)
        listed = [f"{path.relative_to(raw).as_posix()} {found}" for path, found in zip(rasters, hashes, strict=True)]
        digest = hashlib.sha256("\n".join(listed).encode()).hexdigest()
        return {TABLE: f"sha256:{file_sha256(raw / TABLE)}", "rasters": f"sha256:{digest}"}

    def pairs(self, raw: Path) -> list[Pair]:
        """Return the pair of every row of pairs.csv; places and splits that it lacks are derived from coordinates."""
        rows = read_pairs_table(raw / TABLE, self.classes)
        return sorted((self._pair(raw, row) for row in rows), key=lambda pair: pair.key)

    def read(self, raw: Path, pair: Pair) -> dict[str, NDArray[Any]]:
        """Read both modalities by the band names that the files state; see `Source.read`.

        Scale and offset that files state are applied. Where a band has no data, S1 is NaN in this band, and S2 is 0 in
        all bands.
        """
        paths = _files(raw, pair.key)
        for side in _SUFFIXES:
            if not paths[side].exists():
                raise absent_raster(raw / side, pair.key)
        rasters = {
            name: read_raster(path, pair.key, hint=LAYOUT_HINT, units="dB" if name == "s1" else "DN")
            for name, path in paths.items()
        }
        for raster in rasters.values():
            require_ground(pair.key, raster, self._inputs)
        check_same_ground(pair.key, rasters)
        bands: dict[str, NDArray[Any]] = {}
        s2 = [raster for name, raster in rasters.items() if name != "s1"]
        for name, raster in rasters.items():
            _check_names(pair.key, raster, bands)
            pixels = _decibels(pair.key, raster) if name == "s1" else _digital_numbers(pair.key, raster, s2)
            bands.update(zip(raster.names, pixels, strict=True))
        return bands

    def read_map(self, raw: Path, pair: Pair) -> NDArray[np.uint8]:
        """Raise an error, because such a folder has no maps; see `Source.read_map`."""
        raise no_maps("a folder", pair)

    def facts(self, raw: Path) -> Facts:
        """Return the offset of the settings; nothing else is known about a user's data."""
        return Facts(s2_offset=self._s2_offset)

    def _pair(self, raw: Path, row: PairRow) -> Pair:
        paths = _files(raw, row.key)
        lon, lat = _lon_lat(paths["s2"])
        place = row.place or (row.key if lon is None or lat is None else _cell(lon, lat))
        return Pair(
            key=row.key,
            files={side: paths[side].relative_to(raw).as_posix() for side in _SUFFIXES},
            labels=row.labels,
            split=next((name for name in SPLITS if name == row.split), _drawn_split(place)),
            place=place,
            date=row.date,
            country=row.country,
            lon=lon,
            lat=lat,
        )


def _files(raw: Path, key: str) -> dict[str, Path]:
    """Return a pair's files by modality, and existing files of other resolutions by names such as `s2_20m`.

    Raises:
        SourceError: several files have the same name.
    """
    found = {f"{side}{end}": find_raster(raw / side, f"{key}{end}") for side in _SUFFIXES for end in _SUFFIXES[side]}
    absent = {side: raw / side / f"{key}.tif" for side in _SUFFIXES}
    return absent | {name: path for name, path in found.items() if path}


def _lon_lat(path: Path) -> tuple[float, float] | tuple[None, None]:
    """Return longitude and latitude of the tile's centre; None where the file has no place on earth."""
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import RasterioError
    from rasterio.warp import transform

    try:
        with opened(path) as dataset:
            if dataset.crs is None:
                return None, None
            left, bottom, right, top = dataset.bounds
            (lon,), (lat,) = transform(dataset.crs, "EPSG:4326", [(left + right) / 2], [(bottom + top) / 2])
    except (RasterioError, CPLE_BaseError):  # a local grid has no place on earth; transform raises GDAL's own errors
        return None, None
    return (float(lon), float(lat)) if math.isfinite(lon) and math.isfinite(lat) else (None, None)


def _cell(lon: float, lat: float) -> str:
    """Return the name of the cell, about 10 by 10 km at any latitude, that is the place where the table states none."""
    row = math.floor(lat / _CELL_DEGREES)
    # All cells of a row have one width; otherwise neighbouring cells would not meet.
    shrinking = math.cos(math.radians((row + 0.5) * _CELL_DEGREES))
    return f"10km_{row}_{math.floor(lon * shrinking / _CELL_DEGREES)}"


def _drawn_split(place: str) -> Split:
    # The split depends only on the place's name: pairs that are added later don't change the split of others.
    drawn = int(hashlib.sha256(place.encode()).hexdigest()[:8], 16) / 16**8
    return "train" if drawn < _TRAIN_BELOW else "validation" if drawn < _VALIDATION_BELOW else "test"


def _check_names(key: str, raster: Raster, known: Collection[str]) -> None:
    twice = sorted(name for name in set(raster.names) if raster.names.count(name) > 1 or name in known)
    if "" in raster.names or twice:
        what = f"names {', '.join(twice)} twice" if "" not in raster.names else "has bands without a name"
        raise PairError(
            "incomplete",
            f"Pair {key}: {raster.path} {what}.",
            got=list(raster.names),
            expected="each band's description is its product name, once a pair: VV, VH, B02, B8A",
            hint=f"`rio edit-info {raster.path} --bidx 1 --description B02`, for each band",
        )


def _decibels(key: str, raster: Raster) -> NDArray[np.float32]:
    if raster.pixels.dtype.kind != "f":
        raise _wrong_units(key, raster, "dB as floating-point numbers", "export S1 as float32")
    decibels = raster.pixels.astype(np.float32)
    decibels[:, (decibels == 0).all(axis=0)] = np.nan
    if raster.nodata is not None:
        decibels[raster.nodata] = np.nan
    return decibels


def _digital_numbers(key: str, raster: Raster, files: Sequence[Raster]) -> NDArray[np.uint16]:
    """Return pixels `[C, h, w]` as uint16; 0 where a band of any S2 file has no data."""
    found = np.rint(raster.pixels) if raster.is_scaled else raster.pixels
    with np.errstate(invalid="ignore"):  # a value that does not fit becomes another number, which is detected below
        numbers = found.astype(np.uint16)
    is_right = numbers == found
    if raster.nodata is not None:
        is_right |= raster.nodata
    if not is_right.all():
        raise _wrong_units(key, raster, "whole numbers from 0 to 65535", "store reflectance times 10,000 as uint16")
    for other in files:
        if other.nodata is not None:
            numbers[:, touched(np.asarray(other.nodata.any(axis=0)), (numbers.shape[1], numbers.shape[2]))] = 0
    return numbers


def _wrong_units(key: str, raster: Raster, expected: str, hint: str) -> PairError:
    data = raster.pixels if raster.nodata is None else raster.pixels[~raster.nodata]
    got = f"{data.dtype}, {data.min():.4g} to {data.max():.4g}"
    return PairError("units", f"Pair {key}: {raster.path} has other pixels.", got=got, expected=expected, hint=hint)
