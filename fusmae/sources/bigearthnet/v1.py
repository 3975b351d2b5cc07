"""The lists and labels of BigEarthNet v1: which pairs there are, and what they show."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fusmae.data.index import Pair, Split
from fusmae.errors import SourceError
from fusmae.sources.bigearthnet.names import parse_patch_name
from fusmae.sources.bigearthnet.nomenclature import classes_of_v1_labels
from fusmae.sources.bigearthnet.places import centres, ground_cell

SPLIT_LISTS: dict[Split, str] = {
    "train": "bigearthnet-train.csv",
    "validation": "bigearthnet-val.csv",
    "test": "bigearthnet-test.csv",
}
"""The official lists: a line a pair, S2 name and S1 name. They leave out the pairs with snow or clouds."""

FOLDERS = {"s1": "BigEarthNet-S1-v1.0", "s2": "BigEarthNet-v1.0"}
"""Folder of each modality."""

# Half a million small files: from a network disk each one waits, so many are asked for at once.
_NUM_THREADS = 32
_FILES_A_TASK = 500


def listed_pairs(raw: Path) -> list[Pair]:
    """The pairs of the official lists in the order of their keys; those without any of the 19 classes are left out.

    The official splits share no ground cell of one tile, so a place is one cell here and every split is kept as it
    is. They do share ground where tiles overlap: see `BigEarthNetSource`.

    Args:
        raw: the raw folder.

    Raises:
        SourceError: a list or labels are absent or damaged, or a label is unknown.
    """
    listed = [(s2, s1, split) for split, name in SPLIT_LISTS.items() for s2, s1 in _lines(raw / name)]
    labels = _labels(raw, [s2 for s2, _, _ in listed])
    found = sorted((*row, classes) for row, classes in zip(listed, labels, strict=True) if classes)
    # S2 names of v1 lack the tile; S1 names have it.
    patches = [parse_patch_name(s1) for _, s1, _, _ in found]
    return [
        Pair(
            key=s2,
            s1=f"{FOLDERS['s1']}/{s1}",
            s2=f"{FOLDERS['s2']}/{s2}",
            labels=classes,
            split=split,
            place=ground_cell(patch),
            date=parse_patch_name(s2).date,
            lon=lon,
            lat=lat,
        )
        for (s2, s1, split, classes), patch, (lon, lat) in zip(found, patches, centres(patches), strict=True)
    ]


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    if not path.exists():
        raise SourceError(f"There is no list {path}.", hint="dvc repro -f -s fetch")
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        s2, _, s1 = line.partition(",")
        if not (s2.startswith("S2") and s1.startswith("S1")):
            raise SourceError(
                f"{path}, line {number}, names no pair.",
                got=line,
                expected="S2 name,S1 name",
                hint="remove the file, then `dvc repro -f -s fetch`",
            )
        yield s2, s1


def _labels(raw: Path, names: Sequence[str]) -> list[tuple[str, ...]]:
    """Classes of each patch, in the order of names; each set of classes is kept once."""
    if not (raw / FOLDERS["s2"]).is_dir():
        raise SourceError(f"There is no folder {raw / FOLDERS['s2']}.", hint="dvc repro -f -s fetch")
    sets: dict[tuple[str, ...], tuple[str, ...]] = {}

    def read(start: int) -> list[tuple[str, ...] | None]:
        return [_labels_of(raw, name, sets) for name in names[start : start + _FILES_A_TASK]]

    with ThreadPoolExecutor(_NUM_THREADS) as threads:
        found = [one for some in threads.map(read, range(0, len(names), _FILES_A_TASK)) for one in some]
    missing = [name for name, one in zip(names, found, strict=True) if one is None]
    if missing:
        raise SourceError(
            f"{len(missing)} of {len(names)} listed patches have no labels in {raw / FOLDERS['s2']}.",
            got=f"no {_labels_path(raw, missing[0])}{' and others' if len(missing) > 1 else ''}",
            hint=f"remove {raw / FOLDERS['s2']} and run `dvc repro -f -s fetch`, or restore the files",
        )
    return [one for one in found if one is not None]


def _labels_path(raw: Path, name: str) -> Path:
    return raw / FOLDERS["s2"] / name / f"{name}_labels_metadata.json"


def _labels_of(raw: Path, name: str, sets: dict[tuple[str, ...], tuple[str, ...]]) -> tuple[str, ...] | None:
    path = _labels_path(raw, name)
    try:
        stated = tuple(json.loads(path.read_bytes())["labels"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceError(
            f"{path} holds no labels: {type(error).__name__}: {error}", hint="restore this file from v1's S2 archive"
        ) from error
    if stated not in sets:
        try:
            sets[stated] = classes_of_v1_labels(stated)
        except SourceError as error:
            raise SourceError(f"{path}: {error}") from error
    return sets[stated]
