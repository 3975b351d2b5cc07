"""A user's own pairs: `pairs.csv` and two folders of GeoTIFFs that name their bands; see docs/folder.md."""

import csv
import hashlib
import math
import re
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.data.index import SPLITS, Pair, Split
from fusmae.errors import Fault, PairError, SourceError
from fusmae.files import file_sha256
from fusmae.sources.file_hashes import file_hashes
from fusmae.sources.raster import Raster, check_same_ground, opened, read_raster
from fusmae.sources.source import Facts, no_maps

_COLUMNS = ("key", "labels", "split", "place", "date", "country")
_SUFFIXES = {"s1": ("",), "s2": ("", "_20m", "_60m")}
_HINT = "docs/folder.md shows the layout; then `fusmae update`"
_CELL_DEGREES = 10_000 / 111_195
_TRAIN_BELOW, _VALIDATION_BELOW = 0.70, 0.85
_NO_CELL = "\0"
_UNKNOWN_DATE = "1970-01-01"


class FolderSource:
    """Pairs that a user brings; see `Source` for the methods and docs/folder.md for the layout.

    Args:
        classes: the class table, in the order of a label vector.
        s2_offset: what the products add to every S2 digital number, if it was not subtracted: 1000 from baseline
            04.00 on.
    """

    name = "folder"
    map_classes: tuple[str, ...] = ()
    licence = "as its owner states"
    is_synthetic = False

    def __init__(self, classes: Sequence[str], s2_offset: int = 0) -> None:
        self.classes = tuple(classes)
        self._s2_offset = s2_offset

    def fetch(
        self, downloads: Path, raw: Path, *, mirrors: Sequence[str] = (), num_connections: int = 4
    ) -> dict[str, str]:
        """Check the layout; nothing is downloaded. Gives the table's SHA-256 and one of all rasters, by name."""
        _read_table(raw)
        files = {side: sorted((raw / side).rglob("*.tif")) for side in _SUFFIXES}
        for side, found in files.items():
            if not found:
                raise SourceError(f"There is no GeoTIFF in {raw / side}.", expected=f"{side}/<key>.tif", hint=_HINT)
        rasters = [path for side in files.values() for path in side]
        hashes = file_hashes(raw, rasters)
        listed = [f"{path.relative_to(raw).as_posix()} {found}" for path, found in zip(rasters, hashes, strict=True)]
        digest = hashlib.sha256("\n".join(listed).encode()).hexdigest()
        return {"pairs.csv": f"sha256:{file_sha256(raw / 'pairs.csv')}", "rasters": f"sha256:{digest}"}

    def pairs(self, raw: Path) -> list[Pair]:
        """Every row of pairs.csv; places and splits that it leaves out follow from where the tiles lie."""
        return sorted((self._pair(raw, *row) for row in _read_table(raw)), key=lambda pair: pair.key)

    def read(self, raw: Path, pair: Pair) -> dict[str, NDArray[Any]]:
        """Both sides by the names that the files give their bands; see `Source.read`."""
        paths = {f"{side}{end}": raw / side / f"{pair.key}{end}.tif" for side in _SUFFIXES for end in _SUFFIXES[side]}
        rasters = {
            name: read_raster(path, pair.key, hint=_HINT)
            for name, path in paths.items()
            if name in _SUFFIXES or path.exists()
        }
        check_same_ground(pair.key, rasters)
        bands: dict[str, NDArray[Any]] = {}
        for name, raster in rasters.items():
            _check_names(pair.key, raster, bands)
            to_units = _decibels if name == "s1" else _digital_numbers
            bands.update(zip(raster.names, to_units(pair.key, raster), strict=True))
        return bands

    def read_map(self, raw: Path, pair: Pair) -> NDArray[np.uint8]:
        """There are none; see `Source.read_map`."""
        raise no_maps("a folder", pair)

    def facts(self, raw: Path) -> Facts:
        """Nothing is known of a user's data but what the settings say."""
        return Facts(s2_offset=self._s2_offset)

    def _pair(self, raw: Path, line: int, row: dict[str, str]) -> Pair:
        key, split = row["key"], row.get("split", "")
        labels = tuple(label for label in re.split(r"\s*[;|]\s*", row["labels"]) if label)
        if not key or Path(key).is_absolute() or ".." in Path(key).parts:
            raise _bad_row(line, "key", key, "a file name without its ending")
        if not set(labels) <= set(self.classes):
            raise _bad_row(line, "labels", row["labels"], f"{list(self.classes)}, as in `data.source.classes`")
        if split not in ("", *SPLITS):
            raise _bad_row(line, "split", split, ", ".join(SPLITS))
        try:
            date = datetime.fromisoformat(row.get("date") or _UNKNOWN_DATE)
        except ValueError as error:
            raise _bad_row(line, "date", row["date"], "like 2017-06-13 or 2017-06-13T10:10:31") from error
        lon, lat = _lon_lat(raw / "s2" / f"{key}.tif")
        place = row.get("place") or (key if lon is None or lat is None else _cell(lon, lat))
        return Pair(
            key=key,
            s1=f"s1/{key}.tif",
            s2=f"s2/{key}.tif",
            labels=labels,
            split=next((name for name in SPLITS if name == split), _drawn_split(place)),
            place=place,
            date=date.replace(tzinfo=date.tzinfo or UTC),
            country=row.get("country", ""),
            lon=lon,
            lat=lat,
        )


def _read_table(raw: Path) -> list[tuple[int, dict[str, str]]]:
    """Rows of pairs.csv by line number."""
    path = raw / "pairs.csv"
    if not path.is_file():
        raise SourceError(f"There is no table {path}.", expected="pairs.csv, s1/<key>.tif, s2/<key>.tif", hint=_HINT)
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:  # spreadsheets add a byte order mark
        reader = csv.DictReader(file, restkey="", restval=_NO_CELL)
        columns = reader.fieldnames or ()
        if not {"key", "labels"} <= set(columns) <= set(_COLUMNS):
            expected = f"key, labels and, if you like, {', '.join(_COLUMNS[2:])}"
            raise SourceError(f"{path} has other columns.", got=", ".join(columns), expected=expected, hint=_HINT)
        try:
            rows = [(reader.line_num, row) for row in reader]
        except csv.Error as error:
            raise SourceError(f"{path} is no CSV after line {reader.line_num}: {error}.", hint=_HINT) from error
    for line, row in rows:
        if len(row) != len(columns) or _NO_CELL in row.values():
            raise _bad_row(line, "row", ",".join(map(str, row.values())), f"{len(columns)} cells; commas in quotes")
    return [(line, {name: cell.strip() for name, cell in row.items()}) for line, row in rows]


def _bad_row(line: int, column: str, got: str, expected: str) -> SourceError:
    return SourceError(
        f"pairs.csv, line {line}: the {column} can't be used.", got=repr(got), expected=expected, hint=_HINT
    )


def _lon_lat(path: Path) -> tuple[float, float] | tuple[None, None]:
    """Where the tile's centre is; None where the file can't tell, which reading the pair will refuse."""
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import RasterioError
    from rasterio.warp import transform

    try:
        with opened(path) as dataset:
            if dataset.crs is None:
                return None, None
            left, bottom, right, top = dataset.bounds
            (lon,), (lat,) = transform(dataset.crs, "EPSG:4326", [(left + right) / 2], [(bottom + top) / 2])
    except (RasterioError, CPLE_BaseError):  # a local grid has no place on earth; transform gives GDAL's own errors
        return None, None
    return (float(lon), float(lat)) if math.isfinite(lon) and math.isfinite(lat) else (None, None)


def _cell(lon: float, lat: float) -> str:
    """The cell, of some 10 by 10 km wherever it lies, that a place is where the table names none."""
    row = math.floor(lat / _CELL_DEGREES)
    # One width for the whole row, or cells of the same row would not meet.
    shrinking = math.cos(math.radians((row + 0.5) * _CELL_DEGREES))
    return f"10km_{row}_{math.floor(lon * shrinking / _CELL_DEGREES)}"


def _drawn_split(place: str) -> Split:
    # By the place's name alone: pairs that come later move none of those that are there.
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
    return raster.pixels.astype(np.float32, copy=False)


def _digital_numbers(key: str, raster: Raster) -> NDArray[np.uint16]:
    with np.errstate(invalid="ignore"):  # what does not fit becomes another number, and is found by that
        numbers = raster.pixels.astype(np.uint16)
    if not (numbers == raster.pixels).all():
        raise _wrong_units(key, raster, "whole numbers from 0 to 65535", "store reflectance times 10,000 as uint16")
    return numbers


def _wrong_units(key: str, raster: Raster, expected: str, hint: str) -> PairError:
    num_nan = int(np.isnan(raster.pixels).sum())
    if num_nan:
        hint = "leave the pair out, or fill its nodata"
    got = f"{raster.pixels.dtype}, {np.nanmin(raster.pixels):.4g} to {np.nanmax(raster.pixels):.4g}, {num_nan} NaN"
    fault: Fault = "nodata" if num_nan else "units"
    return PairError(fault, f"Pair {key}: {raster.path} has other pixels.", got=got, expected=expected, hint=hint)
