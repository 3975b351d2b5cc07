"""The lists and labels of BigEarthNet v1: its pairs, their splits and their classes."""

import json
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import NamedTuple

from fusmae.data.index import Pair, Split
from fusmae.errors import SourceError, first_three
from fusmae.runs.utf8 import read_utf8
from fusmae.sources.patches.nomenclature import classes_of_v1_labels
from fusmae.sources.patches.places import MAX_BETWEEN_SIDES, PatchName, centres, ground_cell, parse_patch_name

SPLIT_LISTS: dict[Split, str] = {
    "train": "bigearthnet-train.csv",
    "validation": "bigearthnet-val.csv",
    "test": "bigearthnet-test.csv",
}
"""The official lists: one line per pair with S2 name and S1 name. They leave out the pairs with snow or clouds."""

FOLDERS = {"s1": "BigEarthNet-S1-v1.0", "s2": "BigEarthNet-v1.0"}
"""Folder of each modality in the raw data."""

# There are half a million small files, and each read from a network disk waits: so many are read at once.
_NUM_THREADS = 32
_FILES_PER_TASK = 500


class Listed(NamedTuple):
    """One line of the lists: names of the S2 and S1 patch, split, acquisition time of S2 (UTC), and parsed S1 name."""

    s2: str
    s1: str
    split: Split
    date: datetime
    patch: PatchName


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
            files={"s1": f"{FOLDERS['s1']}/{one.s1}", "s2": f"{FOLDERS['s2']}/{one.s2}"},
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
    for split, name in SPLIT_LISTS.items():
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
    folder = raw / FOLDERS["s2"]
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
