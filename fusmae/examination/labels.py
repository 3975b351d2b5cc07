"""Checks of labels: class table, index, label columns of the shards and maps must agree, and labels differ in train.

The labels of a segmentation are in the maps: what the index states of a pair beside them is compared with its map.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fusmae.data.index import SPLITS, Split
from fusmae.examination.check import UPDATE, Dataset, Result, counted, findings, question, some
from fusmae.examination.values import Values, values_of

_MAX_CONTRADICTED_SHARE = 0.01
# Share of the wrong rows that a known mistake must explain to be named; other rows may have other faults.
_EXPLAINED = 0.9
# Shards hold values in single precision, and the mean of a map may be added up in another order.
_VALUE_TOLERANCE = 1e-4


@question("blocks", needs_shards=False)
def check_labels(data: Dataset) -> Result:
    """Known pairs have the classes that they are known to have, index and shards agree on every pair, all dates of a
    place have the same classes where the dataset states them by place, and labels differ in train.
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
    in_train = _without_difference(data)
    num_known = sum(pair.key in data.facts.labels for pair in data.pairs)
    hints = {
        f"compare the class table and the labels with the dataset's own, then {UPDATE}": in_table,
        f"the shards are of other labels or damaged maps: {UPDATE}": in_shards,
        f"nothing can be learned from equal labels: bring others, or other splits, then {UPDATE}": in_train,
    }
    return findings(
        in_table | in_shards | in_train,
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
    observed, num_columns = data.observed, data.task.num_outputs
    if not observed.keys:
        return {}
    if observed.labels.shape[1] != num_columns:
        columns, classes = counted(observed.labels.shape[1], "label column"), counted(num_columns, "class", "classes")
        return {f"in shards with {columns}, for a class table of {classes}": observed.keys}
    if data.task.value is not None:
        return _other_values(data)
    if data.task.is_dense:  # the shards' labels are those of the maps
        return {}
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


def _other_values(data: Dataset) -> dict[str, list[str]]:
    """Pairs with another value, or another mean of their map, in the shards than in the index."""
    observed = data.observed
    stated = {pair.key: np.nan if pair.value is None else pair.value for pair in data.pairs}
    expected = np.array([stated.get(key, np.nan) for key in observed.keys])
    got = observed.labels[:, 0].astype(np.float64)
    is_equal = np.isclose(got, expected, rtol=_VALUE_TOLERANCE, equal_nan=True)
    if data.task.is_dense:  # an index may leave values to the maps
        is_equal |= np.isnan(expected)
    wrong = np.flatnonzero(~is_equal & [key in stated for key in observed.keys])
    if not len(wrong):
        return {}
    what, first = "another mean of the map" if data.task.is_dense else "another value", wrong[0]
    kind = (
        f"with {what} in the shards than the index states: {observed.keys[first]} has {got[first]:g}, "
        f"stated is {expected[first]:g}"
    )
    return {kind: observed.keys_where(~is_equal)}


def _without_difference(data: Dataset) -> dict[str, list[str]]:
    """All pairs of train, as a kind of findings, where one class or one value is all that they have."""
    observed, task = data.observed, data.task
    is_train = np.array([split == "train" for split in observed.splits], np.bool_)
    if not is_train.any() or len(is_train) != len(observed.labels):
        return {}
    only = ""
    if task.value is not None:
        train = values_of(observed).by_split["train"]
        only = f"{task.value.name} {train.lowest:g}" if train.count and train.lowest == train.highest else ""
    elif task.kind in ("multiclass", "segmentation"):
        columns = observed.map_shares if task.kind == "segmentation" else observed.labels
        names = data.map_classes if task.kind == "segmentation" else task.classes
        present = np.flatnonzero(columns[is_train].any(axis=0))
        only = f"class “{names[present[0]]}”" if len(present) == 1 else ""
    return {f"which are all of train and have one {only} only": observed.keys_where(is_train)} if only else {}


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
    stated = observed.labels
    if data.task.is_dense:
        of_pair = {pair.key: pair.labels for pair in data.pairs}
        stated = _columns([of_pair.get(key, ()) for key in observed.keys], data)
        if not stated.any():
            return Result(0, "no label is stated beside those of the maps", expected, is_skipped=True)
    shown = np.pad(observed.map_shares, ((0, 0), (0, len(map_classes) - observed.map_shares.shape[1])))
    both = [name for name in classes if name in map_classes]
    shares = shown[:, [map_classes.index(name) for name in both]]
    is_label = stated[:, [classes.index(name) for name in both]] > 0
    # Some pairs of a segmentation may have labels beside the map, and others none.
    is_stated = stated.any(axis=1) | (not data.task.is_dense)
    wrong = observed.keys_where(is_stated & np.where(is_label, shares == 0, shares > 0.5).any(axis=1))
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
    """Every class has a pair in train; values of the other splits are among those of train."""
    if data.task.value is not None:
        return _compared_values(data, values_of(data.observed))
    if not data.classes:
        return _without_labels(data)
    if data.task.is_dense and not data.observed.keys:
        return Result(0, "maps have the classes: they are counted in the shards", "a pair of each", is_skipped=True)
    counts = class_counts(data)
    absent = [name for name in data.classes if not counts[name]["train"]]
    unmeasured = [name for name in data.classes if counts[name]["train"] and not counts[name]["test"]]
    unlabelled = 0 if data.task.is_dense else sum(not pair.labels for pair in data.pairs)
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


def _without_labels(data: Dataset) -> Result:
    got = f"{counted(len(data.pairs), 'pair')} without labels: enough to pretrain, not to probe, finetune or evaluate"
    return Result(0, got, "labels, if there shall be a model that predicts them", is_skipped=True)


def _compared_values(data: Dataset, values: Values) -> Result:
    """Compare the values of validation and test with those of train."""
    if not data.observed.keys:
        return Result(0, "values are counted in the shards", "values that overlap", is_skipped=True)
    found = {split: totals for split, totals in values.by_split.items() if totals.count}
    if not found or "train" not in found:
        return _without_labels(data)
    unit = data.task.value.unit if data.task.value else ""
    ranges = [f"{split} {totals.lowest:g} to {totals.highest:g}" for split, totals in found.items()]
    train = found.pop("train")
    apart = [split for split, other in found.items() if other.lowest > train.highest or other.highest < train.lowest]
    got = f"{', '.join(ranges)} {unit}".strip()
    return Result(
        len(apart),
        f"{got}; none of {' and '.join(apart)} lies in train's range" if apart else got,
        "values of validation and test that overlap with those of train; findings are splits",
        hint="a model can't be right beyond what it has learned: split by places, not by values",
    )


def class_counts(data: Dataset) -> dict[str, dict[Split, int]]:
    """Return the number of pairs by class, then by split; a class of a segmentation is that of its shards."""
    if data.task.kind == "segmentation":
        if data.observed.labels.shape[1] != len(data.classes):
            return {}
        rows = zip(data.observed.splits, data.observed.labels.astype(np.bool_), strict=True)
        counts = Counter((data.classes[column], split) for split, row in rows for column in np.flatnonzero(row))
    else:
        counts = Counter((label, pair.split) for pair in data.pairs for label in pair.labels)
    return {name: {split: counts[name, split] for split in SPLITS} for name in data.classes}


def pixel_shares(data: Dataset) -> dict[str, dict[Split, float]]:
    """Return the share of all pixels of a split's maps that a class covers, by class; empty but for a segmentation."""
    if data.task.kind != "segmentation" or not data.observed.keys:
        return {}
    shares = data.observed.map_shares
    shares = np.pad(shares, ((0, 0), (0, len(data.map_classes) - shares.shape[1])))
    splits = np.array(data.observed.splits)
    means = {split: shares[splits == split].sum(axis=0) / max(1, (splits == split).sum()) for split in SPLITS}
    return {
        name: {split: float(means[split][column]) for split in SPLITS} for column, name in enumerate(data.map_classes)
    }
