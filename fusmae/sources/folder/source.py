"""A user's own pairs: `pairs.csv` and a folder of GeoTIFFs per modality; see docs/folder.md."""

import hashlib
import json
import re
import time
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from fusmae.config.task import Kind, Task, Value
from fusmae.data.index import SPLITS, Pair, Split
from fusmae.data.pixels import NO_CLASS
from fusmae.errors import PairError, SourceError
from fusmae.files import file_sha256, visible_files, write_json
from fusmae.modalities import MAP_GSD_M, ModalityInput, Units, tile_side_m
from fusmae.rasters.geometry import cell_column, cell_row, lon_lat
from fusmae.rasters.raster_file import how_to_state_quantity, touched
from fusmae.rasters.s1_units import LinearUnits, S1Units
from fusmae.runs.resume_folder import resume_root
from fusmae.runs.utf8 import composed
from fusmae.sources.folder.backscatter import decibels_of, require_stated
from fusmae.sources.folder.maps import MAPS, positions_of, require_map_grid, values_of
from fusmae.sources.folder.pairs_table import LAYOUT_HINT, TABLE, PairRow, read_pairs_table
from fusmae.sources.shared.raster import Raster, check_same_ground, opened, read_raster, require_ground
from fusmae.sources.shared.source import Facts, Source
from fusmae.sources.transfer.remote import DEFAULT_OPTIONS, DownloadOptions
from fusmae.units import UNITS, Unit

_ENDINGS = (".tif", ".tiff")
_CELL_M = 10_000
# A younger file's hash isn't stored: the file may be rewritten without a change of its time.
_SETTLED_NS = 2_000_000_000
# Number of pairs, approximately, whose levels show whether linear units are stated rightly.
_SAMPLED_PAIRS = 24
_TRAIN_BELOW, _VALIDATION_BELOW = 0.70, 0.85


class FolderSource(Source):
    """Pairs that a user provides; see `Source` for the methods and docs/folder.md for the layout.

    Beside the settings of `FolderConfig` it takes the arrays of a tile, whose modalities `read` returns; they may be
    empty where no pixels are read.
    """

    name = "folder"
    licence = "as its owner states"

    def __init__(
        self,
        classes: Sequence[str],
        s2_offset: int = 0,
        inputs: Sequence[ModalityInput] = (),
        units: Mapping[str, S1Units] | None = None,
        class_values: Sequence[int] = (),
        ignore_values: Sequence[int] = (),
        value: Mapping[str, Any] | None = None,
        kind: Kind = "multilabel",
    ) -> None:
        classes = tuple(composed(name) for name in classes)
        self.task = Task(kind=kind, classes=classes, value=None if value is None else Value.model_validate(value))
        if kind == "segmentation":
            self.map_classes = classes
        self._class_of_number = dict(zip(class_values or range(len(classes)), classes, strict=True))
        self._ignored = tuple(ignore_values)
        self._s2_offset = s2_offset
        self._linear: dict[str, LinearUnits] = {key: kind for key, kind in (units or {}).items() if kind != "dB"}
        self._inputs = tuple(inputs)

    def fetch(self, downloads: Path, raw: Path, options: DownloadOptions = DEFAULT_OPTIONS) -> dict[str, str]:
        """Check the layout; nothing is downloaded. Returns the table's SHA-256 and one of all rasters, by name."""
        rows = read_pairs_table(raw / TABLE, self.task)
        folders = modality_folders(raw)
        for item in self._inputs:
            if raw / item.modality not in folders:
                problem = f"There is no GeoTIFF in {raw / item.modality}."
                raise SourceError(problem, expected=f"{item.modality}/<key>.tif", hint=LAYOUT_HINT)
        if self.task.is_dense:
            if not rasters_by_key(raw / MAPS):
                problem = f"There is no GeoTIFF in {raw / MAPS}, where the labels of a {self.task.kind} per pixel are."
                raise SourceError(problem, expected=f"{MAPS}/<key>.tif", hint=LAYOUT_HINT)
            folders.append(raw / MAPS)
        for modality, linear in self._linear.items():
            require_stated(modality, self._sampled(raw, rows, modality), linear)
        rasters = [path for folder in folders for path in sorted(chain(*rasters_by_key(folder).values()))]
        hashes = file_hashes(raw, rasters)
        listed = [f"{path.relative_to(raw).as_posix()} {found}" for path, found in zip(rasters, hashes, strict=True)]
        digest = hashlib.sha256("\n".join(listed).encode()).hexdigest()
        return {TABLE: f"sha256:{file_sha256(raw / TABLE)}", "rasters": f"sha256:{digest}"}

    def pairs(self, raw: Path) -> list[Pair]:
        """Return the pair of every row of pairs.csv; places and splits that it lacks are derived from coordinates."""
        rows = read_pairs_table(raw / TABLE, self.task)
        folders = modality_folders(raw)
        for row in rows:
            for item in self._inputs:
                _find_rasters(raw / item.modality, row.key, [item.gsd_m])  # refuses two files of one name
        return sorted((_pair(raw, folders, row) for row in rows), key=lambda pair: pair.key)

    def read(self, raw: Path, pair: Pair) -> dict[str, NDArray[Any]]:
        """Read the modalities of `inputs` by the band names that the files state; see `Source.read`.

        Scale and offset that files state are applied. Where a band has no data, this band is NaN in a unit with
        decimals, and all bands of the modality are 0 in a unit of whole numbers.
        """
        units = {item.modality: item.units for item in self._inputs}
        rasters = {modality: self._rasters(raw, pair.key, modality) for modality in units}
        check_same_ground(pair.key, {str(raster.path.relative_to(raw)): raster for raster in chain(*rasters.values())})
        bands: dict[str, NDArray[Any]] = {}
        for modality, files in rasters.items():
            for raster in files:
                _check_names(pair.key, raster, bands)
                if linear := self._linear.get(modality):
                    pixels: NDArray[Any] = decibels_of(pair.key, modality, raster, linear)
                else:
                    pixels = _in_units(pair.key, modality, units[modality], raster, files)
                bands |= zip(raster.names, pixels, strict=True)
        return bands

    def read_map(self, raw: Path, pair: Pair) -> NDArray[Any]:
        """Read `maps/<key>.tif`, which must be on the 10 m grid of the pair; see `Source.read_map`."""
        if not self.task.is_dense:
            return super().read_map(raw, pair)
        path = find_raster(raw / MAPS, pair.key)
        if path is None:
            raise absent_raster(raw / MAPS, pair.key)
        found = read_raster(path, pair.key, hint=LAYOUT_HINT)
        # One band of the pair is read, only for its place.
        ground = read_raster(raw / pair.files[self._inputs[0].modality], pair.key, hint=LAYOUT_HINT, bands=[1])
        tile_m = tile_side_m(self._inputs)
        if self.task.value is not None:
            is_finer = (found.bounds[2] - found.bounds[0]) / found.pixels.shape[2] < MAP_GSD_M
            how = "average" if is_finer and not found.crs.is_geographic else "bilinear"
            require_map_grid(pair.key, found, ground, tile_m, nodata=-9999, resampling=how)
            return values_of(pair.key, found, self.task.value)
        free = (
            number for number in (*self._ignored, NO_CLASS, *range(NO_CLASS)) if number not in self._class_of_number
        )
        require_map_grid(pair.key, found, ground, tile_m, nodata=next(free), resampling="near")
        return positions_of(pair.key, found, self._class_of_number, self._ignored)

    def _rasters(self, raw: Path, key: str, modality: str) -> list[Raster]:
        """Read `<key>.tif` and, where there are some, the files of single resolutions, such as `<key>_20m.tif`."""
        folder, inputs = raw / modality, [item for item in self._inputs if item.modality == modality]
        paths = _find_rasters(folder, key, [item.gsd_m for item in inputs])
        if paths[0] is None:
            raise absent_raster(folder, key)
        is_linear = modality in self._linear
        rasters = [
            read_raster(path, key, hint=LAYOUT_HINT, units=inputs[0].units, is_linear=is_linear)
            for path in filter(None, paths)
        ]
        for raster in rasters:
            require_ground(key, raster, inputs)
        return rasters

    def _sampled(self, raw: Path, rows: Sequence[PairRow], modality: str) -> Iterator[Raster]:
        """Read files of pairs from all over the table; stages that use them refuse those that can't be read."""
        for row in rows[:: max(1, len(rows) // _SAMPLED_PAIRS)]:
            with suppress(PairError):
                yield from self._rasters(raw, row.key, modality)

    def facts(self, raw: Path) -> Facts:
        """Return the offset of the settings; nothing else is known about a user's data."""
        return Facts(s2_offset=self._s2_offset)


def file_hashes(folder: Path, paths: Sequence[Path]) -> list[str]:
    """Return the SHA-256 of all the files of a folder, in their order.

    Hashes are stored in the project's hidden folder. A file is read again if its size, its mtime, its ctime or its
    inode has changed.
    """
    key = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    notes = resume_root() / f"file-hashes-{key}.json"
    known = json.loads(notes.read_text(encoding="utf-8")) if notes.is_file() else {}
    states = {path.relative_to(folder).as_posix(): _state(path) for path in paths}
    changed = [name for name, state in states.items() if name not in known or known[name]["state"] != state]
    before = time.time_ns()
    with ThreadPoolExecutor() as pool:  # hashing releases the interpreter's lock
        read = dict(zip(changed, pool.map(lambda name: file_sha256(folder / name), changed), strict=True))
    found = {name: read[name] if name in read else known[name]["sha256"] for name in states}
    kept = {
        name: {"state": state, "sha256": found[name]}
        for name, state in states.items()
        if name not in read or before - max(state[1:3]) > _SETTLED_NS
    }
    if kept != known:
        write_json(notes, kept)
    return list(found.values())


def _state(path: Path) -> list[int]:
    """Return size, mtime and ctime in ns, and inode: they reveal a change without reading."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


@lru_cache(maxsize=8)
def _listing(folder: Path, _changed_ns: int) -> Mapping[str, tuple[Path, ...]]:
    files: dict[str, list[Path]] = defaultdict(list)
    for path in visible_files(folder, _ENDINGS):
        files[composed(path.with_suffix("").relative_to(folder).as_posix())].append(path)
    return {key: tuple(paths) for key, paths in files.items()}


def modality_folders(raw: Path) -> list[Path]:
    """Return the folders in `raw` that hold GeoTIFFs, each of a modality, in the order of their names; not the maps."""
    return [folder for folder in sorted(raw.glob("[!.]*")) if folder.name != MAPS and rasters_by_key(folder)]


def rasters_by_key(folder: Path) -> Mapping[str, tuple[Path, ...]]:
    """Return every GeoTIFF below a folder by key: its relative path without extension, in composed form (NFC).

    Hidden files are ignored. A listing is cached until the folder changes.
    """
    return _listing(folder, folder.stat().st_mtime_ns) if folder.is_dir() else {}


def find_raster(folder: Path, key: str) -> Path | None:
    """Return the GeoTIFF of a key; None where there is none.

    Raises:
        SourceError: several files have this key, so that the meant one is unknown.
    """
    found = rasters_by_key(folder).get(composed(key), ())
    if len(found) > 1:
        raise SourceError(
            f"{folder} has {len(found)} files for the key {key!r}.",
            got=", ".join(ascii(path.relative_to(folder).as_posix()) for path in found),
            expected="one; names that look the same count as the same",
            hint="remove or rename all but one; then `dvc repro -f -s fetch`",
        )
    # Listings don't follow links to folders, so a file in a linked folder is looked up directly.
    return found[0] if found else exact if (exact := folder / f"{key}.tif").is_file() else None


def absent_raster(folder: Path, key: str) -> PairError:
    """Return the error about a key without a file; it names files with similar names."""
    names = rasters_by_key(folder)
    alike = [path for name, paths in names.items() if _folded(name) == _folded(key) for path in paths]
    named = f"{alike[0]} is there: give the file and the key the same name" if alike else ""
    return PairError(
        "incomplete",
        f"Pair {key} lacks a file: {folder / key}.tif is absent.",
        got=", ".join(path.relative_to(folder).as_posix() for path in alike) or None,
        hint="; ".join(filter(None, [named, LAYOUT_HINT])),
    )


def _folded(name: str) -> str:
    """Remove from a name what is often mistyped: upper case, spaces, the file extension."""
    stem = re.sub(r"\.tiff?$", "", unicodedata.normalize("NFKC", name).casefold())
    return re.sub(r"[\s_-]+", "_", stem)


def _find_rasters(folder: Path, key: str, gsds_m: Sequence[int]) -> list[Path | None]:
    """Return the files `<key>` and, for each resolution, such as `<key>_20m`; None in the place of an absent one."""
    return [find_raster(folder, f"{key}{end}") for end in ("", *(f"_{gsd_m}m" for gsd_m in gsds_m))]


def _pair(raw: Path, folders: Sequence[Path], row: PairRow) -> Pair:
    found = {folder.name: find_raster(folder, row.key) for folder in folders}
    # All files of a pair cover the same ground, but for a metre.
    lon, lat = next((point for path in reversed(found.values()) if path and (point := _position(path))), (None, None))
    place = row.place or (row.key if lon is None or lat is None else _cell(lon, lat))
    paths = {modality: path or raw / modality / f"{row.key}.tif" for modality, path in found.items()}
    return Pair(
        key=row.key,
        files={modality: path.relative_to(raw).as_posix() for modality, path in paths.items()},
        labels=row.labels,
        split=next((name for name in SPLITS if name == row.split), _drawn_split(place)),
        place=place,
        date=row.date,
        country=row.country,
        lon=lon,
        lat=lat,
        value=row.value,
    )


def _position(path: Path) -> tuple[float, float] | None:
    """Return longitude and latitude of the tile's centre; None where the file has no place on earth."""
    try:
        with opened(path) as dataset:
            crs, (left, bottom, right, top) = dataset.crs, dataset.bounds
    except RasterioError:
        return None
    found = lon_lat(crs, [(left + right) / 2], [(bottom + top) / 2]) if crs is not None else None
    return (float(found[0][0]), float(found[1][0])) if found else None


def _cell(lon: float, lat: float) -> str:
    """Return the name of the cell, about 10 by 10 km at any latitude, that is the place where the table states none."""
    row = cell_row(lat, _CELL_M)
    return f"10km_{row}_{cell_column(lon, row, _CELL_M)}"


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
            expected="each band's description is its name in data.modalities, once per pair: VV, VH, B02, B8A",
            hint=f"`rio edit-info {raster.path} --bidx 1 --description B02`, for each band",
        )


def _in_units(key: str, modality: str, units: Units, raster: Raster, files: Sequence[Raster]) -> NDArray[Any]:
    """Return pixels `[C, h, w]` in the unit's type: what has no data is NaN, or 0 in a unit of whole numbers.

    Where one of a modality's files has no data, whole numbers of the others become 0 too.
    """
    unit = UNITS[units]
    if unit.dtype == "float32":
        return _with_decimals(key, modality, unit, raster)
    found = np.rint(raster.pixels) if raster.scale else raster.pixels
    with np.errstate(invalid="ignore"):  # a value that does not fit becomes another number, which is detected below
        numbers = found.astype(unit.dtype)
    is_right = numbers == found
    if raster.nodata is not None:
        is_right |= raster.nodata
    if not is_right.all():
        expected = "whole numbers from {:g} to {:g}".format(*unit.limits)
        hint = f"store {unit.description} as {unit.stored}"
        if raster.pixels.dtype.kind == "f" and unit.per_quantity != 1 and not raster.scale:
            hint = f"{hint}; or, {how_to_state_quantity(raster.path, units)}"
        raise _wrong_units(key, raster, expected, hint)
    for other in files:
        if other.nodata is None:
            continue
        if unit.zero_is_nodata == "never":
            problem = f"Pair {key}: {other.path} has pixels without data, which {unit.noun} can't store."
            raise PairError("nodata", problem, expected="data in every pixel", hint="fill them, or leave the pair out")
        numbers[:, touched(np.asarray(other.nodata.any(axis=0)), (numbers.shape[1], numbers.shape[2]))] = 0
    return numbers


def _with_decimals(key: str, modality: str, unit: Unit, raster: Raster) -> NDArray[np.float32]:
    if unit.is_never_whole and raster.pixels.dtype.kind != "f":
        raise _wrong_units(key, raster, f"{unit.noun} as floating-point numbers", f"store {modality} as float32")
    pixels = raster.pixels.astype(np.float32)
    if unit.zero_is_nodata == "always":
        pixels[:, (pixels == 0).all(axis=0)] = np.nan
    if raster.nodata is not None:
        pixels[raster.nodata] = np.nan
    return pixels


def _wrong_units(key: str, raster: Raster, expected: str, hint: str) -> PairError:
    data = raster.pixels if raster.nodata is None else raster.pixels[~raster.nodata]
    got = f"{data.dtype}, {data.min():.4g} to {data.max():.4g}"
    return PairError("units", f"Pair {key}: {raster.path} has other pixels.", got=got, expected=expected, hint=hint)
