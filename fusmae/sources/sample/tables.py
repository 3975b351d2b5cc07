"""What the sample's tables and lists state about each pair: labels, split, country, snow and cloud."""

import bz2
import csv
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fusmae.data.index import Pair, Split
from fusmae.errors import PairError, SourceError
from fusmae.sources.patches.nomenclature import classes_of_v1_labels
from fusmae.sources.patches.places import PatchName, parse_patch_name
from fusmae.sources.patches.v2 import FLAGGED_TABLE, TABLE, table_rows

V2_TABLES = (TABLE, FLAGGED_TABLE)
"""Tables in v2's layout, reduced to the sample."""

_FETCH = "dvc repro -f -s fetch"
_NAMES = "s1_s2_name_country_season.csv.bz2"
_SNOW = "patches_with_seasonal_snow.csv.bz2"
_CLOUD = "patches_with_cloud_and_shadow.csv.bz2"
_SPLIT_LISTS: dict[Split, str] = {"train": "train.csv.bz2", "validation": "val.csv.bz2", "test": "test.csv.bz2"}

V1_TABLES = (_NAMES, _SNOW, _CLOUD, *_SPLIT_LISTS.values())
"""The complete official lists of v1."""


@dataclass(frozen=True)
class V1Description:
    """Metadata that is stored with the pixels of one v1 pair.

    Attributes:
        key: name of the S2 patch.
        labels: CORINE labels, out of v1's 43.
        sides: location of each modality, as in `Pair`.
        date: acquisition time (UTC), where the metadata state it more precisely than the name; otherwise None.
    """

    key: str
    labels: tuple[str, ...]
    sides: dict[str, str]
    date: datetime | None = None


def v2_pairs(tables: Path) -> Iterator[tuple[Pair, PatchName]]:
    """Yield each v2 pair, still without its place, and the parsed S1 name, which determines the place.

    Raises:
        SourceError: a table is absent, or holds values that v2 does not have.
    """
    for name in V2_TABLES:
        for row in table_rows(tables / name).to_dict("records"):
            key, s1_name = str(row["patch_id"]), str(row["s1_name"])
            pair = Pair(
                key=key,
                files={"s1": f"v2_lmdb:{s1_name}", "s2": f"v2_lmdb:{key}"},
                labels=row["labels"],
                split=row["split"],
                place="",
                date=parse_patch_name(key).date,
                country=str(row["country"]),
                is_snowy=bool(row["contains_seasonal_snow"]),
                is_cloudy=bool(row["contains_cloud_or_shadow"]),
            )
            yield pair, parse_patch_name(s1_name)


def v1_pairs(tables: Path, descriptions: Sequence[V1Description]) -> Iterator[tuple[Pair, PatchName]]:
    """Yield each v1 pair, still without its place, and the parsed S1 name, which determines the place.

    Country, split and flags come from v1's lists.

    Raises:
        SourceError: a list is absent or lacks a pair, or a label is unknown.
    """
    keys = {description.key for description in descriptions}
    names = _rows_of(tables / _NAMES, keys)
    listed = {split: _listed(tables / name, keys) for split, name in _SPLIT_LISTS.items()}
    snowy, cloudy = _listed(tables / _SNOW, keys), _listed(tables / _CLOUD, keys)
    for description in descriptions:
        key = description.key
        if key not in names:
            raise SourceError(f"{tables / _NAMES} does not know the pair {key}.", hint=_FETCH)
        pair = Pair(
            key=key,
            files=description.sides,
            labels=classes_of_v1_labels(description.labels),
            split=_official_split(key, listed),
            place="",
            date=description.date or parse_patch_name(key).date,
            country=names[key]["country"],
            is_snowy=key in snowy,
            is_cloudy=key in cloudy,
        )
        yield pair, parse_patch_name(names[key]["s1_name"])


def describe_geotiff_pairs(raw: Path, s1_folder: Path, s2_folder: Path) -> Iterator[V1Description]:
    """Yield what the JSON files beside the GeoTIFFs state; the one of S1 names the S2 patch of the same pair.

    Args:
        raw: folder of the raw data.
        s1_folder: folder of all S1 patches, relative to `raw`.
        s2_folder: folder of all S2 patches, relative to `raw`.

    Raises:
        PairError: a modality or its JSON file is missing.
        SourceError: a JSON file is damaged.
    """
    s1_of_s2 = {
        _json_of(folder)["corresponding_s2_patch"]: folder.relative_to(raw).as_posix()
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


def _official_split(key: str, listed: dict[Split, set[str]]) -> Split:
    # v1's lists leave out patches with snow or cloud (here S2B_MSIL2A_20180204T94161_57_38). Such a pair starts in
    # train: no published test score includes it, and it still leaves train if other pairs of its place are held out.
    return next((split for split, names in listed.items() if key in names), "train")


def _folders(parent: Path) -> list[Path]:
    if not parent.is_dir():
        raise SourceError(f"There is no folder {parent}.", hint=_FETCH)
    return sorted(folder for folder in parent.iterdir() if folder.is_dir())


def _json_of(folder: Path) -> dict[str, str]:
    path = folder / f"{folder.name}_labels_metadata.json"
    if not path.exists():
        raise PairError("incomplete", f"Patch {folder.name} has no labels: {path} is absent.", hint=_FETCH)
    try:
        stated: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SourceError(f"{path} is no JSON: {error}", hint=_FETCH) from error
    return stated


def _lines(path: Path) -> list[str]:
    if not path.exists():
        raise SourceError(f"There is no list {path}.", hint=_FETCH)
    try:
        return bz2.decompress(path.read_bytes()).decode().splitlines()
    except (ValueError, OSError) as error:
        raise SourceError(f"The list {path} is damaged: {error}", hint=_FETCH) from error


def _listed(path: Path, keys: Collection[str]) -> set[str]:
    return {name for name in _lines(path) if name in keys}


def _rows_of(path: Path, keys: Collection[str]) -> dict[str, dict[str, str]]:
    header, *lines = _lines(path)
    position = header.split(",").index("s2_name")
    # The list has 590,326 rows, of which only a few are needed: the csv module would take seconds to parse them all.
    wanted = [line for line in lines if line.split(",")[position] in keys]
    return {row["s2_name"]: row for row in csv.DictReader([header, *wanted])}
