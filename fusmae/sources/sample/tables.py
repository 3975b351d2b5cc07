"""What the sample's tables and lists state about each pair: labels, split, country, snow and cloud."""

import bz2
import csv
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from fusmae.data.index import Pair, Split
from fusmae.errors import PairError, SourceError
from fusmae.sources.patches.nomenclature import classes_of_v1_labels
from fusmae.sources.patches.places import PatchName, parse_patch_name
from fusmae.sources.patches.v2 import FLAGGED_TABLE, TABLE, pairs_of_rows, table_rows

V2_TABLES = (TABLE, FLAGGED_TABLE)
"""Tables in v2's layout, reduced to the sample."""

_FETCH = "dvc repro -f -s fetch"
_NAMES = "s1_s2_name_country_season.csv.bz2"
_SNOW = "patches_with_seasonal_snow.csv.bz2"
_CLOUD = "patches_with_cloud_and_shadow.csv.bz2"
_SPLIT_LISTS: dict[Split, str] = {"train": "train.csv.bz2", "validation": "val.csv.bz2", "test": "test.csv.bz2"}

V1_TABLES = (_NAMES, _SNOW, _CLOUD, *_SPLIT_LISTS.values())
"""The complete official lists of v1."""


class V1Description(NamedTuple):
    """Metadata that is stored with the pixels of one v1 pair."""

    key: str  # name of the S2 patch
    labels: tuple[str, ...]  # CORINE labels, out of v1's 43
    sides: dict[str, str]  # location of each modality, as in `Pair`
    date: datetime | None = None  # acquisition time (UTC), where the metadata state it more precisely than the name


def v2_pairs(tables: Path) -> Iterator[tuple[Pair, PatchName]]:
    """Yield each v2 pair, still without its place, and the parsed S1 name, which determines the place.

    Raises:
        SourceError: a table is absent, or holds values that v2 does not have.
    """
    for pair in chain.from_iterable(pairs_of_rows(table_rows(tables / name)) for name in V2_TABLES):
        names = {modality: PurePosixPath(folder).name for modality, folder in pair.files.items()}
        files = {modality: f"v2_lmdb:{name}" for modality, name in names.items()}
        yield replace(pair, files=files), parse_patch_name(names["s1"])


def v1_pairs(tables: Path, descriptions: Sequence[V1Description]) -> Iterator[tuple[Pair, PatchName]]:
    """Yield each v1 pair, still without its place, and the parsed S1 name, which determines the place.

    Country, split and flags come from v1's lists.

    Raises:
        SourceError: a list is absent or lacks a pair, or a label is unknown.
    """
    keys = {description.key for description in descriptions}
    names = _rows_of(tables / _NAMES, keys)
    listed = {split: keys.intersection(_lines(tables / name)) for split, name in _SPLIT_LISTS.items()}
    snowy, cloudy = (keys.intersection(_lines(tables / name)) for name in (_SNOW, _CLOUD))
    for key, labels, sides, date in descriptions:
        if key not in names:
            raise SourceError(f"{tables / _NAMES} does not know the pair {key}.", hint=_FETCH)
        pair = Pair(
            key=key,
            files=sides,
            labels=classes_of_v1_labels(labels),
            # v1's lists leave out patches with snow or cloud (here S2B_MSIL2A_20180204T94161_57_38). Such a pair starts
            # in train: no published test score includes it, and it still leaves train if other pairs of its place are
            # held out.
            split=next((split for split, members in listed.items() if key in members), "train"),
            place="",
            date=date or parse_patch_name(key).date,
            country=names[key]["country"],
            is_snowy=key in snowy,
            is_cloudy=key in cloudy,
        )
        yield pair, parse_patch_name(names[key]["s1_name"])


def describe_geotiff_pairs(raw: Path, s1_folder: Path, s2_folder: Path) -> Iterator[V1Description]:
    """Yield what the JSON files beside the GeoTIFFs state; the one of S1 names the S2 patch of the same pair.

    The folders of all S1 patches and of all S2 patches are relative to `raw`.

    Raises:
        PairError: a modality is missing.
        SourceError: a JSON file is absent or damaged.
    """
    s1_of_s2 = {
        _json_of(folder)["corresponding_s2_patch"]: (s1_folder / folder.name).as_posix()
        for folder in _folders(raw / s1_folder)
    }
    s2_names = [folder.name for folder in _folders(raw / s2_folder)]
    alone = sorted(s1_of_s2.keys() ^ set(s2_names))
    if alone:
        raise PairError("incomplete", f"These patches have one side only: {', '.join(alone)}.", hint=_FETCH)
    for name in s2_names:
        stated = _json_of(raw / s2_folder / name)
        date = datetime.strptime(stated["acquisition_date"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
        sides = {"s1": s1_of_s2[name], "s2": (s2_folder / name).as_posix()}
        yield V1Description(name, tuple(stated["labels"]), sides, date)


def _folders(parent: Path) -> list[Path]:
    if not parent.is_dir():
        raise SourceError(f"There is no folder {parent}.", hint=_FETCH)
    return sorted(folder for folder in parent.iterdir() if folder.is_dir())


def _json_of(folder: Path) -> Any:
    return _decoded(folder / f"{folder.name}_labels_metadata.json", json.loads)


def _lines(path: Path) -> list[str]:
    lines: list[str] = _decoded(path, lambda data: bz2.decompress(data).decode().splitlines())
    return lines


def _decoded(path: Path, decode: Callable[[bytes], Any]) -> Any:
    try:
        return decode(path.read_bytes())
    except FileNotFoundError as error:
        raise SourceError(f"{path} is absent.", hint=_FETCH) from error
    except (ValueError, OSError) as error:
        raise SourceError(f"{path} is damaged: {error}", hint=_FETCH) from error


def _rows_of(path: Path, keys: Collection[str]) -> dict[str, dict[str, str]]:
    header, *lines = _lines(path)
    position = header.split(",").index("s2_name")
    # The list has 590,326 rows, of which only a few are needed: the csv module would take seconds to parse them all.
    wanted = [line for line in lines if line.split(",")[position] in keys]
    return {row["s2_name"]: row for row in csv.DictReader([header, *wanted])}
