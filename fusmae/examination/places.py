"""Checks of whether training has seen the test ground: places in two splits, and neighbours across splits."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fusmae.data.index import Pair, Split
from fusmae.examination.check import UPDATE, Check, counted, some

DISTANCES_KM = (1.2, 2.4, 10.0)
"""Reported distances: the side of BigEarthNet's tiles, at which they touch; twice that; and a distance at which ground
hardly looks alike any more."""

# Centres of touching tiles are 1.2 km apart in their projection, and up to 0.5 % more on a sphere.
_TOLERANCE = 1.01
_EARTH_RADIUS_KM = 6371.0


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
        expected="one split a place; findings are places",
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
