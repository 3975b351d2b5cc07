"""Checks of the index: labels, which pairs are present, and whether training has seen the test ground.

Class table, index, label columns of the shards and land-cover maps must agree.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fusmae.data.index import SPLITS, Pair, Split
from fusmae.data.shards import LeftOut
from fusmae.examination.check import UPDATE, Check, counted, joined, keys_left_out, some
from fusmae.examination.observe import Observation
from fusmae.sources.shared.source import Facts

_MAX_CONTRADICTED_SHARE = 0.01
# Share of the wrong rows that a known mistake must explain to be named; other rows may have other faults.
_EXPLAINED = 0.9
DISTANCES_KM = (1.2, 2.4, 10.0)
"""Reported distances: the side of BigEarthNet's tiles, at which they touch; twice that; and a distance at which ground
hardly looks alike any more."""

# Centres of touching tiles are 1.2 km apart in their projection, and up to 0.5 % more on a sphere.
_TOLERANCE = 1.01
_EARTH_RADIUS_KM = 6371.0


def check_labels(
    pairs: Sequence[Pair],
    classes: Sequence[str],
    facts: Facts,
    observed: Observation | None = None,
    left_out: Sequence[LeftOut] = (),
) -> Check:
    """Check that known pairs have the classes that they are known to have, and that the shards agree with the index.

    Args:
        pairs: pairs of the index.
        classes: class names, in the order of the label columns.
        facts: facts of the dataset, with the classes of known pairs.
        observed: observation of the shards; None where only the index is checked.
        left_out: pairs that are in no shard.
    """
    unknown = [pair.key for pair in pairs if not set(pair.labels) <= set(classes)]
    unknown_names = sorted({name for pair in pairs for name in pair.labels} - set(classes))
    known = [pair for pair in pairs if pair.key in facts.labels]
    untrue, untrue_text = _against_facts(known, classes, facts)
    unequal, unequal_text = ([], "") if observed is None else _against_shards(pairs, classes, observed)
    damaged = keys_left_out(left_out, "labels")
    changing = _changing_by_date(pairs) if facts.has_labels_by_place else []
    sentences = [
        *([f"{counted(len(unknown), 'pair')} with names outside the class table: {unknown_names}"] if unknown else []),
        *([untrue_text] if untrue else []),
        *([unequal_text] if unequal else []),
        *([f"{counted(len(changing), 'pair')} of places whose classes differ between dates"] if changing else []),
        *([f"{counted(len(damaged), 'pair')} left out of the shards for their labels"] if damaged else []),
    ]
    tested = f"{counted(len(known), 'known pair')} has" if len(known) == 1 else f"{len(known):,} known pairs have"
    findings = {*unknown, *untrue, *unequal, *damaged, *changing}
    in_table = f"compare the class table and the labels with the dataset's own, then {UPDATE}"
    in_shards = f"the shards are of other labels or damaged maps: {UPDATE}"
    return Check(
        name="labels",
        severity="blocks",
        what="Known pairs have the classes that they are known to have, index and shards agree on every pair, and all "
        "dates of a place have the same classes where the dataset states them by place.",
        found=len(findings),
        got=joined(
            sentences,
            f"{tested} the right classes" if known else "index and shards agree; no known pair is here to test the map",
        ),
        expected="the same classes in the dataset's statements, the index and the columns of the shards",
        examples=some(findings),
        hint="; ".join([in_table] * bool(unknown or untrue or changing) + [in_shards] * bool(unequal or damaged)),
    )


def check_maps(observed: Observation, classes: Sequence[str], map_classes: Sequence[str]) -> Check:
    """Check that labels name what the land-cover maps show.

    The share of a map that makes a class a label differs between datasets, so only what holds for all of them is
    checked: a label has a pixel in the map, and a class that covers more than half of the map is a label.

    Args:
        observed: observation of the shards.
        classes: class names, in the order of the label columns.
        map_classes: classes of the maps, in the order of their numbers.
    """
    what = "Labels name what a pair's land-cover map shows."
    expected = (
        f"contradictions in at most {_MAX_CONTRADICTED_SHARE:.0%} of the pairs: no label without a pixel in the map, "
    )
    expected += "and none missing that covers more than half of it"
    if not map_classes or not observed.keys or observed.labels.shape[1] != len(classes):
        return Check("maps", "blocks", what, 0, "there are no land-cover maps to compare", expected, is_skipped=True)
    shown = np.zeros((len(observed.keys), len(map_classes)), np.float32)
    shown[:, : observed.map_shares.shape[1]] = observed.map_shares
    both = [name for name in classes if name in map_classes]
    shares = shown[:, [map_classes.index(name) for name in both]]
    is_label = observed.labels[:, [list(classes).index(name) for name in both]] > 0
    wrong = observed.keys_where(((is_label & (shares == 0)) | (~is_label & (shares > 0.5))).any(axis=1))
    share = len(wrong) / len(observed.keys)
    return Check(
        name="maps",
        severity="blocks",
        what=what,
        found=len(wrong) if share > _MAX_CONTRADICTED_SHARE else 0,
        got=f"the maps contradict the labels of {len(wrong):,} of {counted(len(observed.keys), 'pair')} ({share:.1%})",
        expected=expected,
        examples=some(wrong),
        hint="labels or maps belong to other pairs: compare the raw table and the maps' names with the dataset's own, "
        f"then {UPDATE}",
    )


def check_classes(pairs: Sequence[Pair], classes: Sequence[str]) -> Check:
    """Check that every class has pairs in train; classes without pairs in test are reported too."""
    counts = class_counts(pairs, classes)
    absent = [name for name in classes if not counts[name]["train"]]
    unmeasured = [name for name in classes if counts[name]["train"] and not counts[name]["test"]]
    unlabelled = sum(not pair.labels for pair in pairs)
    sentences = [
        *([f"no pair in train: {_quoted(absent)}"] if absent else []),
        *([f"no pair in test: {_quoted(unmeasured)}"] if unmeasured else []),
        *([f"{counted(unlabelled, 'pair')} without any class"] if unlabelled else []),
    ]
    return Check(
        name="classes",
        severity="warns",
        what="Every class has a pair in train.",
        found=len(absent),
        got=joined(sentences, f"all {len(classes)} classes are in train and in test"),
        expected=f"a pair of each of {len(classes)} classes; findings are classes",
        hint="such a class can't be learned: leave it out of the class table, or read its scores as unknown",
    )


def class_counts(pairs: Iterable[Pair], classes: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return the number of pairs by class, then by split."""
    counts = Counter((label, pair.split) for pair in pairs for label in pair.labels)
    return {name: {split: counts[name, split] for split in SPLITS} for name in classes}


def _changing_by_date(pairs: Sequence[Pair]) -> list[str]:
    """Return the keys of all pairs of places whose classes differ between dates."""
    labels = {pair.place: pair.labels for pair in pairs}
    changing = {pair.place for pair in pairs if pair.labels != labels[pair.place]}
    return [pair.key for pair in pairs if pair.place in changing] if changing else []


def _quoted(names: Sequence[str]) -> str:
    # Class names are quoted because they contain commas; the sentences of a check are joined by semicolons.
    return ", ".join(f"“{name}”" for name in names)


def _against_facts(known: Sequence[Pair], classes: Sequence[str], facts: Facts) -> tuple[list[str], str]:
    stated = [facts.labels[pair.key] for pair in known]
    wrong = [row for row, pair in enumerate(known) if set(stated[row]) != set(pair.labels)]
    if not wrong:
        return [], ""
    first = wrong[0]
    likeness = _likeness(
        _columns([stated[row] for row in wrong], classes),
        _columns([known[row].labels for row in wrong], classes),
        classes,
    )
    text = (
        f"{len(wrong):,} of {counted(len(known), 'known pair')} {'has' if len(wrong) == 1 else 'have'} "
        f"other classes in the index{likeness}: {known[first].key} has {list(known[first].labels)}, "
        f"known are {list(stated[first])}"
    )
    return [known[row].key for row in wrong], text


def _against_shards(pairs: Sequence[Pair], classes: Sequence[str], observed: Observation) -> tuple[list[str], str]:
    if not observed.keys:
        return [], ""
    if observed.labels.shape[1] != len(classes):
        columns = counted(observed.labels.shape[1], "label column")
        return observed.keys, f"the shards have {columns}, the class table {counted(len(classes), 'class', 'classes')}"
    labels = {pair.key: pair.labels for pair in pairs}
    rows = [row for row, key in enumerate(observed.keys) if key in labels]
    expected = _columns([labels[observed.keys[row]] for row in rows], classes)
    got = observed.labels[rows].astype(np.bool_)
    wrong = np.flatnonzero((expected != got).any(axis=1))
    if not len(wrong):
        return [], ""
    text = (
        f"{counted(len(wrong), 'pair')} with other columns in the shards than in the index"
        f"{_likeness(expected[wrong], got[wrong], classes)}"
    )
    return [observed.keys[rows[row]] for row in wrong], text


def _columns(labels: Sequence[Sequence[str]], classes: Sequence[str]) -> NDArray[np.bool_]:
    """Return label columns `[N, K]`; names outside the class table are ignored."""
    column_of = {name: column for column, name in enumerate(classes)}
    columns = np.zeros((len(labels), len(classes)), np.bool_)
    for row, names in enumerate(labels):
        columns[row, [column_of[name] for name in names if name in column_of]] = True
    return columns


def _likeness(expected: NDArray[np.bool_], got: NDArray[np.bool_], classes: Sequence[str]) -> str:
    """Name the known mistake that turns the expected columns `[N, K]` into the columns found; "" where none does."""
    alphabet = np.argsort(np.array(classes))
    mistakes = [
        ("as if shifted by +1", np.roll(expected, 1, axis=1)),
        ("as if shifted by -1", np.roll(expected, -1, axis=1)),
        # Programs order the same table differently: in the dataset's order, or alphabetically.
        ("as if the classes stood in the alphabet's order", expected[:, alphabet]),
        ("as if the classes stood in the alphabet's order", expected[:, np.argsort(alphabet)]),
    ]
    for name, mistaken in mistakes:
        if (mistaken == got).all(axis=1).mean() >= _EXPLAINED:
            return f" ({name})"
    return ""


def check_complete(pairs: Sequence[Pair], observed: Observation, left_out: Sequence[LeftOut]) -> Check:
    """Check that every pair of the index is in its split's shards with all modalities, and that no other pair is."""
    splits = {pair.key: pair.split for pair in pairs}
    times = Counter(observed.keys)
    excused = {item.key for item in left_out}
    kinds = {
        "without a modality, or unreadable": keys_left_out(left_out, "complete"),
        "in no shard, for no stated reason": [key for key in splits if key not in times and key not in excused],
        "in the shards but not in the index": [key for key in times if key not in splits],
        "in the shards more than once": [key for key, number in times.items() if number > 1],
        "in the shards of another split": [
            key
            for key, split in zip(observed.keys, observed.splits, strict=True)
            if key in splits and splits[key] != split
        ],
    }
    findings = {key for keys in kinds.values() for key in keys}
    return Check(
        name="complete",
        severity="blocks",
        what="Every pair of the index is in the shards of its split with all modalities, and no other pair is.",
        found=len(findings),
        got=joined(
            [f"{counted(len(set(keys)), 'pair')} {kind}" for kind, keys in kinds.items() if keys],
            f"{counted(len(times), 'pair')} in the index and in the shards",
        ),
        expected=f"the {counted(len(splits), 'pair')} of the index, each once",
        examples=some(findings),
        hint=f"bring the missing files to data/raw, then {UPDATE}; or agree to go on without them in "
        "data.tolerated.complete",
    )


def check_table(pairs: Sequence[Pair], facts: Facts) -> Check:
    """Report which statements the dataset's tables make twice; the reader refuses tables where the two don't agree."""
    return Check(
        name="table",
        severity="blocks",
        what="What the dataset's own tables state twice agrees; tables that contradict themselves are not read.",
        found=0,
        got=f"in the rows of {counted(len(pairs), 'pair')}: {facts.cross_checked}. "
        f"The tables can't show mistakes in: {facts.not_checked}"
        if facts.cross_checked
        else f"the tables state nothing twice, so that they can't show mistakes in: {facts.not_checked}",
        expected="no contradiction",
        is_skipped=not facts.cross_checked,
    )


def check_counts(pairs: Sequence[Pair], counts: Mapping[Split, int] | None) -> Check:
    """Check that each split has as many pairs as the dataset states."""
    found = Counter(pair.split for pair in pairs)
    stated = dict.fromkeys(SPLITS, 0) | dict(counts or {})
    missed = 0 if counts is None else sum(abs(found[split] - stated[split]) for split in SPLITS)
    got = _by_split({split: found[split] for split in SPLITS})
    if missed and sum(stated.values()) == len(pairs):
        got += "; the total is right, so pairs have changed their split"
    return Check(
        name="counts",
        severity="blocks",
        what="Each split has as many pairs as the dataset states.",
        found=missed,
        got=got if counts is not None else f"{got}; the dataset states no counts",
        expected=_by_split(stated) if counts is not None else "nothing is stated",
        hint="the raw data or its table is cut or of another version: compare data.source in params.yaml; "
        f"`dvc repro -f -s fetch`, {UPDATE}",
        is_skipped=counts is None,
    )


def _by_split(counts: Mapping[Split, int]) -> str:
    return ", ".join(f"{split} {count:,}" for split, count in counts.items())


def check_places(pairs: Sequence[Pair]) -> Check:
    """Check that no place is in two splits."""
    splits: dict[str, set[str]] = defaultdict(set)
    for pair in pairs:
        splits[pair.place].add(pair.split)
    leaking = {place for place, found in splits.items() if len(found) > 1}
    leaked = sum(pair.place in leaking for pair in pairs)
    return Check(
        name="places",
        severity="blocks",
        what="No place is in two splits.",
        found=len(leaking),
        got=f"{counted(len(leaking), 'place')} with {counted(leaked, 'pair')} in more than one split"
        if leaking
        else f"{counted(len(splits), 'place')}, each in one split",
        expected="one split per place; findings are places",
        examples=some(leaking),
        hint=f"move each place whole to its most held-out split (test, validation, train), then {UPDATE}",
    )


def check_neighbours(pairs: Sequence[Pair]) -> Check:
    """Check that no validation or test pair lies near a training pair."""
    held_out = [pair for pair in pairs if pair.split != "train" and pair.lon is not None]
    train = _positions([pair for pair in pairs if pair.split == "train" and pair.lon is not None])
    what = "Held-out pairs are far from every training pair."
    expected = f"no validation or test pair within {DISTANCES_KM[-1]:g} km of a training pair"
    if not held_out or not len(train):
        return Check("neighbours", "warns", what, 0, "positions unknown", expected, is_skipped=True)
    distances = _nearest_km(train, _positions(held_out))
    splits = np.array([pair.split for pair in held_out])
    unknown = sum(pair.lon is None for pair in pairs)
    near = np.flatnonzero(distances <= DISTANCES_KM[-1] * _TOLERANCE)
    return Check(
        name="neighbours",
        severity="warns",
        what=what,
        found=len(near),
        got="; ".join(
            _shares(split, distances[splits == split]) for split in ("validation", "test") if (splits == split).any()
        )
        + (f"; positions of {counted(unknown, 'pair')} unknown" if unknown else ""),
        expected=expected,
        examples=some(held_out[row].key for row in near[np.argsort(distances[near], kind="stable")][:10]),
        hint="scores on neighbours are higher than on new land: state these shares with the scores",
    )


def _shares(split: Split, distances: NDArray[np.float64]) -> str:
    shares = [f"{(distances <= limit * _TOLERANCE).mean():.1%} within {limit:g} km" for limit in DISTANCES_KM]
    return f"{split} pairs with a training pair: {', '.join(shares)}"


def _positions(pairs: Sequence[Pair]) -> NDArray[np.float64]:
    """Return points `[N, 3]` on the unit sphere, where the nearest by straight line is the nearest on the surface."""
    degrees = np.array([(pair.lon, pair.lat) for pair in pairs], np.float64).reshape(-1, 2)
    lon, lat = np.radians(degrees).T
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)


def _nearest_km(train: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance `[N]` in km from each point to the nearest training point."""
    from sklearn.neighbors import KDTree

    chords = KDTree(train).query(points, k=1, return_distance=True)[0][:, 0]
    return np.asarray(2 * _EARTH_RADIUS_KM * np.arcsin(np.clip(chords / 2, 0, 1)))
