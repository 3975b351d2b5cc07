"""Checks of the index: labels, which pairs are present, and whether training has seen the test ground.

Class table, index, label columns of the shards and land-cover maps must agree.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fusmae.data.index import SPLITS, Pair, Split, leaking_places
from fusmae.examination.check import UPDATE, Dataset, Result, counted, findings, question, some

_MAX_CONTRADICTED_SHARE = 0.01
# Share of the wrong rows that a known mistake must explain to be named; other rows may have other faults.
_EXPLAINED = 0.9
# Reported distances: the side of BigEarthNet's tiles, at which they touch; twice that; and a distance at which ground
# hardly looks alike any more.
_DISTANCES_KM = (1.2, 2.4, 10.0)
# Centres of touching tiles are 1.2 km apart in their projection, and up to 0.5 % more on a sphere.
_TOLERANCE = 1.01
_EARTH_RADIUS_KM = 6371.0


@question("blocks", needs_shards=False)
def check_counts(data: Dataset) -> Result:
    """Each split has as many pairs as the dataset states."""
    found, counts = Counter(pair.split for pair in data.pairs), data.facts.counts
    got = _by_split(found)
    if counts is None:
        return Result(0, f"{got}; the dataset states no counts", "nothing is stated", is_skipped=True)
    missed = sum(abs(found[split] - counts.get(split, 0)) for split in SPLITS)
    if missed and sum(counts.values()) == len(data.pairs):
        got += "; the total is right, so pairs have changed their split"
    hint = "the raw data or its table is cut or of another version: compare data.source in params.yaml; "
    return Result(missed, got, _by_split(counts), hint=f"{hint}`dvc repro -f -s fetch`, {UPDATE}")


def _by_split(counts: Mapping[Split, int]) -> str:
    return ", ".join(f"{split} {counts.get(split, 0):,}" for split in SPLITS)


@question("blocks")
def check_complete(data: Dataset) -> Result:
    """Every pair of the index is in the shards of its split with all modalities, and no other pair is."""
    splits = {pair.key: pair.split for pair in data.pairs}
    members = list(zip(data.observed.keys, data.observed.splits, strict=True))
    times = Counter(data.observed.keys)
    excused = {item.key for item in data.left_out}
    return findings(
        {
            **data.left_out_for("complete"),
            "in no shard, for no stated reason": splits.keys() - times.keys() - excused,
            "in the shards but not in the index": times.keys() - splits.keys(),
            "in the shards more than once": [key for key, number in times.items() if number > 1],
            "in the shards of another split": [key for key, split in members if splits.get(key, split) != split],
        },
        otherwise=f"{counted(len(times), 'pair')} in the index and in the shards",
        expected=f"the {counted(len(splits), 'pair')} of the index, each once",
        hint=f"bring the missing files to data/raw, then {UPDATE}; or agree to go on without them in "
        "data.tolerated.complete",
    )


@question("blocks", needs_shards=False)
def check_table(data: Dataset) -> Result:
    """What the dataset's own tables state twice agrees; tables that contradict themselves are not read."""
    facts = data.facts
    if not facts.cross_checked:
        got = f"the tables state nothing twice, so that they can't show mistakes in: {facts.not_checked}"
        return Result(0, got, "no contradiction", is_skipped=True)
    got = f"in the rows of {counted(len(data.pairs), 'pair')}: {facts.cross_checked}. "
    return Result(0, f"{got}The tables can't show mistakes in: {facts.not_checked}", "no contradiction")


@question("blocks", needs_shards=False)
def check_labels(data: Dataset) -> Result:
    """Known pairs have the classes that they are known to have, index and shards agree on every pair, and all dates of
    a place have the same classes where the dataset states them by place.
    """
    strange = sorted({name for pair in data.pairs for name in pair.labels} - set(data.classes))
    in_table = {
        f"with names outside the class table: {strange}": [
            pair.key for pair in data.pairs if not set(pair.labels) <= set(data.classes)
        ],
        **_against_facts(data),
        "of places whose classes differ between dates": _changing_by_date(data)
        if data.facts.has_labels_by_place
        else [],
    }
    in_shards = {**_against_shards(data), **data.left_out_for("labels")}
    num_known = sum(pair.key in data.facts.labels for pair in data.pairs)
    hints = {
        f"compare the class table and the labels with the dataset's own, then {UPDATE}": in_table,
        f"the shards are of other labels or damaged maps: {UPDATE}": in_shards,
    }
    return findings(
        in_table | in_shards,
        otherwise=f"{counted(num_known, 'known pair has', 'known pairs have')} the right classes"
        if num_known
        else "index and shards agree; no known pair is here to test the map",
        expected="the same classes in the dataset's statements, the index and the columns of the shards",
        hint="; ".join(hint for hint, kinds in hints.items() if any(kinds.values())),
    )


def _against_facts(data: Dataset) -> dict[str, list[str]]:
    """Known pairs with other classes than they are known to have, as a kind of findings."""
    known = [(pair, stated) for pair in data.pairs if (stated := data.facts.labels.get(pair.key)) is not None]
    wrong = [(pair, stated) for pair, stated in known if set(stated) != set(pair.labels)]
    if not wrong:
        return {}
    likeness = _likeness([stated for _, stated in wrong], _columns([pair.labels for pair, _ in wrong], data), data)
    first, stated = wrong[0]
    kind = (
        f"of {len(known):,} known ones with other classes in the index{likeness}: {first.key} has "
        f"{list(first.labels)}, known are {list(stated)}"
    )
    return {kind: [pair.key for pair, _ in wrong]}


def _changing_by_date(data: Dataset) -> list[str]:
    """Keys of all pairs of places whose classes differ between dates."""
    labels = {pair.place: pair.labels for pair in data.pairs}
    changing = {pair.place for pair in data.pairs if pair.labels != labels[pair.place]}
    return [pair.key for pair in data.pairs if pair.place in changing]


def _against_shards(data: Dataset) -> dict[str, list[str]]:
    """Pairs with other label columns in the shards than in the index, as a kind of findings."""
    observed, num_classes = data.observed, len(data.classes)
    if not observed.keys:
        return {}
    if observed.labels.shape[1] != num_classes:
        columns, classes = counted(observed.labels.shape[1], "label column"), counted(num_classes, "class", "classes")
        return {f"in shards with {columns}, for a class table of {classes}": observed.keys}
    labels = {pair.key: pair.labels for pair in data.pairs}
    rows = [row for row, key in enumerate(observed.keys) if key in labels]
    expected = [labels[observed.keys[row]] for row in rows]
    got = observed.labels[rows].astype(np.bool_)
    wrong = np.flatnonzero((_columns(expected, data) != got).any(axis=1))
    if not len(wrong):
        return {}
    likeness = _likeness([expected[row] for row in wrong], got[wrong], data)
    return {
        f"with other columns in the shards than in the index{likeness}": [observed.keys[rows[row]] for row in wrong]
    }


def _columns(labels: Sequence[Sequence[str]], data: Dataset) -> NDArray[np.bool_]:
    """Label columns `[N, K]`; names outside the class table are ignored."""
    rows = [[name in names for name in data.classes] for names in labels]
    return np.array(rows, np.bool_).reshape(len(rows), len(data.classes))


def _likeness(expected: Sequence[Sequence[str]], got: NDArray[np.bool_], data: Dataset) -> str:
    """Name the known mistake that turns the expected classes into the columns `[N, K]` found; "" where none does."""
    columns, alphabet = _columns(expected, data), np.argsort(np.array(data.classes))
    mistakes = [
        ("as if shifted by +1", np.roll(columns, 1, axis=1)),
        ("as if shifted by -1", np.roll(columns, -1, axis=1)),
        # Programs order the same table differently: in the dataset's order, or alphabetically.
        ("as if the classes stood in the alphabet's order", columns[:, alphabet]),
        ("as if the classes stood in the alphabet's order", columns[:, np.argsort(alphabet)]),
    ]
    explained = (name for name, mistaken in mistakes if (mistaken == got).all(axis=1).mean() >= _EXPLAINED)
    return next((f" ({name})" for name in explained), "")


@question("blocks")
def check_maps(data: Dataset) -> Result:
    """Labels name what a pair's land-cover map shows.

    The share of a map that makes a class a label differs between datasets, so only what holds for all of them is
    checked: a label has a pixel in the map, and a class that covers more than half of the map is a label.
    """
    observed, classes, map_classes = data.observed, list(data.classes), list(data.map_classes)
    expected = (
        f"contradictions in at most {_MAX_CONTRADICTED_SHARE:.0%} of the pairs: no label without a pixel in the map, "
        "and none missing that covers more than half of it"
    )
    if not map_classes or not observed.keys or observed.labels.shape[1] != len(classes):
        return Result(0, "there are no land-cover maps to compare", expected, is_skipped=True)
    shown = np.pad(observed.map_shares, ((0, 0), (0, len(map_classes) - observed.map_shares.shape[1])))
    both = [name for name in classes if name in map_classes]
    shares = shown[:, [map_classes.index(name) for name in both]]
    is_label = observed.labels[:, [classes.index(name) for name in both]] > 0
    wrong = observed.keys_where(np.where(is_label, shares == 0, shares > 0.5).any(axis=1))
    share = len(wrong) / len(observed.keys)
    return Result(
        len(wrong) if share > _MAX_CONTRADICTED_SHARE else 0,
        f"the maps contradict the labels of {len(wrong):,} of {counted(len(observed.keys), 'pair')} ({share:.1%})",
        expected,
        some(wrong),
        "labels or maps belong to other pairs: compare the raw table and the maps' names with the dataset's own, "
        f"then {UPDATE}",
    )


@question("warns", needs_shards=False)
def check_classes(data: Dataset) -> Result:
    """Every class has a pair in train."""
    if not data.classes:
        got = (
            f"{counted(len(data.pairs), 'pair')} without labels: enough to pretrain, not to probe, finetune or evaluate"
        )
        return Result(0, got, "labels, if there shall be a classifier", is_skipped=True)
    counts = class_counts(data.pairs, data.classes)
    absent = [name for name in data.classes if not counts[name]["train"]]
    unmeasured = [name for name in data.classes if counts[name]["train"] and not counts[name]["test"]]
    unlabelled = sum(not pair.labels for pair in data.pairs)
    sentences = {
        f"no pair in train: {_quoted(absent)}": absent,
        f"no pair in test: {_quoted(unmeasured)}": unmeasured,
        f"{counted(unlabelled, 'pair')} without any class": unlabelled,
    }
    return Result(
        len(absent),
        "; ".join(sentence for sentence, concerned in sentences.items() if concerned)
        or f"all {len(data.classes)} classes are in train and in test",
        f"a pair of each of {len(data.classes)} classes; findings are classes",
        hint="such a class can't be learned: leave it out of the class table, or read its scores as unknown",
    )


def _quoted(names: Sequence[str]) -> str:
    # Class names contain commas.
    return ", ".join(f"“{name}”" for name in names)


def class_counts(pairs: Iterable[Pair], classes: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return the number of pairs by class, then by split."""
    counts = Counter((label, pair.split) for pair in pairs for label in pair.labels)
    return {name: {split: counts[name, split] for split in SPLITS} for name in classes}


@question("blocks", needs_shards=False)
def check_places(data: Dataset) -> Result:
    """No place is in two splits."""
    leaking = leaking_places(data.pairs)
    leaked = sum(pair.place in leaking for pair in data.pairs)
    return Result(
        len(leaking),
        f"{counted(len(leaking), 'place')} with {counted(leaked, 'pair')} in more than one split"
        if leaking
        else f"{counted(len({pair.place for pair in data.pairs}), 'place')}, each in one split",
        "one split per place; findings are places",
        some(leaking),
        f"move each place whole to its most held-out split (test, validation, train), then {UPDATE}",
    )


@question("warns", needs_shards=False)
def check_neighbours(data: Dataset) -> Result:
    """Held-out pairs are far from every training pair."""
    placed = [pair for pair in data.pairs if pair.lon is not None]
    train = [pair for pair in placed if pair.split == "train"]
    held_out = [pair for pair in placed if pair.split != "train"]
    expected = f"no validation or test pair within {_DISTANCES_KM[-1]:g} km of a training pair"
    if not held_out or not train:
        return Result(0, "positions unknown", expected, is_skipped=True)
    distances = _nearest_km(_radians(train), _radians(held_out))
    splits = np.array([pair.split for pair in held_out])
    sentences = [_shares(split, distances[splits == split]) for split in SPLITS[1:] if (splits == split).any()]
    if unknown := len(data.pairs) - len(placed):
        sentences.append(f"positions of {counted(unknown, 'pair')} unknown")
    near = np.flatnonzero(distances <= _DISTANCES_KM[-1] * _TOLERANCE)
    nearest = near[np.argsort(distances[near], kind="stable")][:10]
    return Result(
        len(near),
        "; ".join(sentences),
        expected,
        some(held_out[row].key for row in nearest),
        "scores on neighbours are higher than on new land: state these shares with the scores",
    )


def _shares(split: Split, distances: NDArray[np.float64]) -> str:
    shares = [f"{(distances <= limit * _TOLERANCE).mean():.1%} within {limit:g} km" for limit in _DISTANCES_KM]
    return f"{split} pairs with a training pair: {', '.join(shares)}"


def _radians(pairs: Sequence[Pair]) -> NDArray[np.float64]:
    """Latitude and longitude `[N, 2]` in radians."""
    return np.radians(np.array([(pair.lat, pair.lon) for pair in pairs], np.float64))


def _nearest_km(train: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance `[N]` in km from each point to the nearest training point."""
    from sklearn.neighbors import BallTree

    return np.asarray(_EARTH_RADIUS_KM * BallTree(train, metric="haversine").query(points)[0][:, 0])
