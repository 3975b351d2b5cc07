"""BigEarthNet-MM as it is published, version 1 and version 2 (reBEN): its files, and what is read of them."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusmae.config.task import Kind, Task
from fusmae.data.index import SPLITS, Pair, Split
from fusmae.errors import SourceError, first_three
from fusmae.runs.utf8 import read_utf8
from fusmae.sources.patches import v2
from fusmae.sources.patches.facts import V1_FACTS, v2_facts
from fusmae.sources.patches.geotiff import read_patches, read_reference_map
from fusmae.sources.patches.nomenclature import CLASSES, classes_of_v1_labels
from fusmae.sources.patches.places import MAX_BETWEEN_SIDES, PatchName, centres, ground_cell, parse_patch_name
from fusmae.sources.shared.source import Facts, Source
from fusmae.sources.transfer.fetch import fetch_archives, fetch_file
from fusmae.sources.transfer.remote import DEFAULT_OPTIONS, Archive, DownloadOptions, RemoteFile

V1_FOLDERS = {"s1": "BigEarthNet-S1-v1.0", "s2": "BigEarthNet-v1.0"}
"""Folder of each modality in v1's raw data; `v2.FOLDERS` has v2's."""

# There are half a million small files, and each read from a network disk waits: so many are read at once.
_NUM_THREADS = 32
_FILES_PER_TASK = 500

_V2_ADDRESS = "https://hf.co/datasets/torchgeo/bigearthnet/resolve/3cf3a5910a5302d449fdb8e570e5b78de24fe07f/V2"
_V1_ADDRESS = "https://zenodo.org/records/12687186/files"
_V1_LISTS_ADDRESS = (
    "https://git.tu-berlin.de/rsim/BigEarthNet-MM_19-classes_models/-/raw/"
    "9a5be07346ab0884b2d9517475c27ef9db9b5104/splits/{}.csv?inline=false"
)


def _archive(address: str, name: str, makes: str, md5s: dict[str, str]) -> Archive:
    """Return an archive from the MD5 of each of its parts, by what the part's name adds to the archive's."""
    parts = (RemoteFile(f"{name}{end}", f"{address}/{name}{end}", md5) for end, md5 in md5s.items())
    return Archive(name, tuple(parts), makes)


V2_TABLE = RemoteFile(v2.TABLE, f"{_V2_ADDRESS}/{v2.TABLE}", "55687065e77b6d0b0f1ff604a6e7b49c")
"""v2's table of pairs without snow, cloud or cloud shadow."""

_S1_MD5S = {"aa": "039b9ce305fc6582b2c3d60d1573f5b7", "ab": "e94f0ea165d04992ca91d8e58e82ec6d"}
_S2_MD5S = {"aa": "94e8ed32065234d3ab46353d814778d1", "ab": "24c223d9e36166136c13b24a27debe34"}
V2_ARCHIVES = (
    _archive(_V2_ADDRESS, "BigEarthNet-S1.tar.gz", v2.FOLDERS["s1"], _S1_MD5S),
    _archive(_V2_ADDRESS, "BigEarthNet-S2.tar.gz", v2.FOLDERS["s2"], _S2_MD5S),
    _archive(_V2_ADDRESS, "Reference_Maps.tar.gz", v2.MAPS_FOLDER, {"aa": "b0cd1f0a31b49fcbfd61d80f963e759d"}),
)
"""v2's pixels and land-cover maps."""

V1_ARCHIVES = (
    _archive(_V1_ADDRESS, "BigEarthNet-S1-v1.0.tar.gz", V1_FOLDERS["s1"], {"": "94ced73440dea8c7b9645ee738c5a172"}),
    _archive(_V1_ADDRESS, "BigEarthNet-S2-v1.0.tar.gz", V1_FOLDERS["s2"], {"": "5a64e9ce38deb036a435a7b59494924c"}),
)
"""v1's pixels and labels."""

_V1_LIST_MD5S = {
    "train": "623e501b38ab7b12fe44f0083c00986d",
    "val": "22efe8ed9cbd71fa10742ff7df2b7978",
    "test": "697fb90677e30571b9ac7699b7e5b432",
}
V1_LISTS: dict[Split, RemoteFile] = {
    split: RemoteFile(f"bigearthnet-{word}.csv", _V1_LISTS_ADDRESS.format(word), md5)
    for split, (word, md5) in zip(SPLITS, _V1_LIST_MD5S.items(), strict=True)
}
"""v1's official lists: one line per pair with S2 name and S1 name. They leave out the pairs with snow or clouds."""


class Listed(NamedTuple):
    """One line of the lists: names of the S2 and S1 patch, split, acquisition time of S2 (UTC), and parsed S1 name."""

    s2: str
    s1: str
    split: Split
    date: datetime
    patch: PatchName


class BigEarthNetSource(Source):
    """BigEarthNet-MM; see `Source` for the methods and `BigEarthNetConfig` for the settings.

    Splits are the official ones, unchanged, because published scores are measured on them. No ground cell of 1.2 km is
    in two splits. In v2, test patches lie at least 11.9 km from train, while validation borders on both. In v1, every
    test patch borders on train, and 11 % of them, where tiles overlap, show the same ground as a train patch.

    Raises:
        SourceError: version 1 does not have what is requested.
    """

    name = "bigearthnet"
    licence = "BigEarthNet (Technische Universität Berlin): CDLA-Permissive-1.0"

    def __init__(
        self, version: int, countries: Sequence[str], snow_and_clouds: bool, kind: Kind = "multilabel"
    ) -> None:
        hint = "correct data.source in params.yaml"
        if version == 1 and countries:
            problem = "Countries of BigEarthNet can only be chosen in version 2: version 1 does not state them."
            raise SourceError(problem, got=list(countries), expected="data.source.countries: []", hint=hint)
        if version == 1 and snow_and_clouds:
            problem = "Only version 2 has pairs with snow or clouds: version 1's official lists leave them out."
            raise SourceError(problem, got="data.source.snow_and_clouds: true", expected="false", hint=hint)
        self.task = Task(kind=kind, classes=CLASSES)
        self.map_classes = CLASSES if version == 2 else ()
        self._version, self._countries, self._snow_and_clouds = version, tuple(countries), snow_and_clouds

    def fetch(self, downloads: Path, raw: Path, options: DownloadOptions = DEFAULT_OPTIONS) -> dict[str, str]:
        """Fetch the tables and all archives, from v2 only the chosen countries; see `Source.fetch`."""
        if self._version == 1:
            sums = {file.name: _fetch_table(file, raw, options) for file in V1_LISTS.values()}
            listed_names(raw)  # finds a wrong list before 60 GB are transferred
            return {**sums, **fetch_archives(V1_ARCHIVES, downloads, raw, options)}
        if self._snow_and_clouds:
            v2.table_rows(raw / v2.FLAGGED_TABLE)  # only the user can download it: its absence is reported first
        sums = {V2_TABLE.name: _fetch_table(V2_TABLE, raw, options)}
        # A table that contradicts itself is refused before 110 GB are transferred, even if all countries are taken.
        rows = v2.chosen_rows(raw, self._countries, snow_and_clouds=self._snow_and_clouds)
        if self._snow_and_clouds:
            sums[v2.FLAGGED_TABLE] = _md5(raw / v2.FLAGGED_TABLE)
        if not self._countries:
            return {**sums, **fetch_archives(V2_ARCHIVES, downloads, raw, options)}
        choice = set(self._countries)
        if self._snow_and_clouds:
            # Added to the country's own entry, because the choice with flagged pairs includes the other pairs too.
            choice |= {f"{country} with snow and clouds" for country in self._countries}
        names = {*rows["patch_id"], *rows["s1_name"]}

        def is_wanted(member: str) -> bool:  # members are named <top folder>/<scene>/<patch>/<file>
            return not names.isdisjoint(member.split("/")[2:3])

        parts = fetch_archives(V2_ARCHIVES, downloads, raw, options, is_wanted, choice=choice)
        return {**sums, **parts, "countries": ", ".join(sorted(set(self._countries)))}

    def pairs(self, raw: Path) -> list[Pair]:
        """Return every chosen pair of the official tables or lists; a place is a ground cell of 1.2 km."""
        if self._version == 1:
            return listed_pairs(raw)
        return v2.table_pairs(raw, self._countries, snow_and_clouds=self._snow_and_clouds)

    def read(self, raw: Path, pair: Pair) -> dict[str, NDArray[Any]]:
        """Read S1, float32 dB `[120, 120]`, and S2, uint16 `[120, 120]`, `[60, 60]` or `[20, 20]`, by band."""
        return read_patches(raw, pair)

    def read_map(self, raw: Path, pair: Pair) -> NDArray[np.uint8]:
        """Read the classes of v2's reference map `[120, 120]`; see `Source.read_map`."""
        return read_reference_map(raw, pair, CLASSES) if self._version == 2 else super().read_map(raw, pair)

    def facts(self, raw: Path) -> Facts:
        """Return the official counts of the chosen pairs, labels of known patches, and band statistics over v1."""
        is_v1 = self._version == 1
        return V1_FACTS if is_v1 else v2_facts(self._countries, snow_and_clouds=self._snow_and_clouds)


def listed_pairs(raw: Path) -> list[Pair]:
    """Return the pairs of the official lists in the order of their keys, without pairs that have none of 19 classes.

    The official splits share no ground cell of one tile, so a place is one cell here, and every split is kept
    unchanged. Splits do share ground where tiles overlap: see `BigEarthNetSource`.

    Raises:
        SourceError: a list or labels are absent or damaged, or a label is unknown.
    """
    listed = listed_names(raw)
    labels = _labels(raw, [one.s2 for one in listed])
    found = [(one, classes) for one, classes in zip(listed, labels, strict=True) if classes]
    return [
        Pair(
            key=one.s2,
            files={"s1": f"{V1_FOLDERS['s1']}/{one.s1}", "s2": f"{V1_FOLDERS['s2']}/{one.s2}"},
            labels=classes,
            split=one.split,
            place=ground_cell(one.patch),
            date=one.date,
            lon=lon,
            lat=lat,
        )
        for (one, classes), (lon, lat) in zip(found, centres([one.patch for one, _ in found]), strict=True)
    ]


def listed_names(raw: Path) -> list[Listed]:
    """Read the official lists; lines are returned in the order of S2 names.

    Raises:
        SourceError: a list is absent, a line names no pair, two places or two dates, or a name occurs twice.
    """
    listed: list[Listed] = []
    faults: dict[str, list[str]] = defaultdict(list)
    seen: set[str] = set()
    for split, file in V1_LISTS.items():
        name = file.name
        if not (raw / name).exists():
            raise SourceError(f"There is no list {raw / name}.", hint="dvc repro -f -s fetch")
        for number, line in enumerate(map(str.strip, read_utf8(raw / name).splitlines()), start=1):
            parsed = _parsed(line, split, seen) if line else None
            if isinstance(parsed, Listed):
                listed.append(parsed)
            elif parsed:
                faults[parsed].append(f"{name}, line {number}: {line}")
    for fault, lines in faults.items():
        raise SourceError(
            f"{len(lines):,} lines of {raw}'s lists {fault}.",
            got=first_three(lines, "; "),
            expected="S2 name,S1 name: of one column and row, within 7 days, each in one line only",
            hint="remove the file, then `dvc repro -f -s fetch`",
        )
    return sorted(listed, key=lambda one: one.s2)


def _parsed(line: str, split: Split, seen: set[str]) -> Listed | str:
    """Return what a line states, or what is wrong with it; its names are added to `seen`."""
    s2, _, s1 = line.partition(",")
    try:
        s2_patch, s1_patch = parse_patch_name(s2), parse_patch_name(s1)
    except SourceError:
        return "name no pair"
    is_repeated = s1 in seen or s2 in seen
    seen.update((s2, s1))
    if not (s2.startswith("S2") and s1.startswith("S1")):
        return "name no pair"
    if (s2_patch.column, s2_patch.row) != (s1_patch.column, s1_patch.row):
        return "name two places"
    if abs(s2_patch.date - s1_patch.date) > MAX_BETWEEN_SIDES:
        return "name two dates"
    # The S1 name is kept because S2 names of v1 lack the tile.
    return "repeat a name of another line" if is_repeated else Listed(s2, s1, split, s2_patch.date, s1_patch)


def _labels(raw: Path, names: Sequence[str]) -> list[tuple[str, ...]]:
    """Read the classes of each patch, in the order of names; patches with the same labels share one tuple."""
    folder = raw / V1_FOLDERS["s2"]
    if not folder.is_dir():
        raise SourceError(f"There is no folder {folder}.", hint="dvc repro -f -s fetch")
    paths = [folder / name / f"{name}_labels_metadata.json" for name in names]
    with ThreadPool(_NUM_THREADS) as threads:
        found = threads.map(_labels_of, paths, _FILES_PER_TASK)
    missing = [path for path, classes in zip(paths, found, strict=True) if classes is None]
    if missing:
        raise SourceError(
            f"{len(missing)} of {len(names)} listed patches have no labels in {folder}.",
            got=f"no {missing[0]}{' and others' if len(missing) > 1 else ''}",
            hint=f"remove {folder} and run `dvc repro -f -s fetch`, or restore the files",
        )
    return [classes for classes in found if classes is not None]


_classes_of = lru_cache(maxsize=None)(classes_of_v1_labels)


def _labels_of(path: Path) -> tuple[str, ...] | None:
    try:
        return _classes_of(tuple(json.loads(path.read_bytes())["labels"]))
    except FileNotFoundError:
        return None
    except SourceError as error:
        raise SourceError(f"{path}: {error}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"{path} holds no labels: {type(error).__name__}: {error}"
        raise SourceError(problem, hint="restore this file from v1's S2 archive") from error


def _fetch_table(file: RemoteFile, raw: Path, options: DownloadOptions) -> str:
    """Fetch a table unless it is present, complete or shortened by the user, and return its MD5."""
    if not (raw / file.name).exists():
        fetch_file(file, raw / file.name, options)
    return _md5(raw / file.name)


def _md5(path: Path) -> str:
    with path.open("rb") as content:
        return f"md5:{hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()}"
