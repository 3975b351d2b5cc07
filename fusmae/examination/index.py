"""Checks of the index: which pairs are present, and whether training has seen the test ground."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fusmae.data.index import SPLITS, Pair, Split, leaking_places
from fusmae.examination.check import UPDATE, Dataset, Result, counted, findings, question, some

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
