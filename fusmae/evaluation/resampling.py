"""The only bootstrap: over places and seeds, with the same draws for every row, so that differences are paired.

Pairs of one place are alike, and an interval over pairs would be too narrow (Field and Welsh 2007, "Bootstrapping
clustered data"). So whole places are drawn. From too few places no interval is computed: see `fewest_places`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fusmae.data.index import Pair, read_index
from fusmae.data.randomness import Purpose, generators
from fusmae.errors import SourceError
from fusmae.evaluation.scorers import Scorer

CONFIDENCE = 0.95
"""Confidence of intervals that have no parameter for it."""

# Numbers of the random streams of one seed.
_PLACES, _SEEDS = 0, 1


def read_places(index: Path, keys: Sequence[str]) -> list[str]:
    """Names `[N]` of the places that pairs (by key, in the split's order) are drawn with, see `independent_places`.

    Raises:
        SourceError: there is no index, or it lacks one of the pairs.
    """
    pairs = {pair.key: pair for pair in read_index(index)}
    if missing := [key for key in keys if key not in pairs]:
        raise SourceError(
            f"{index} lacks {len(missing)} pairs of the shards.",
            got=f"no row of {missing[0]}",
            expected="the index that the shards were made from",
            hint="dvc repro shard",
        )
    return independent_places([pairs[key] for key in keys])


def independent_places(pairs: Sequence[Pair]) -> list[str]:
    """Names `[N]` of the places that pairs are drawn with: those of one place or acquisition are drawn together.

    Where a data set's places are small (BigEarthNet's are cells of 1.2 km), neighbours in one acquisition are alike
    too. So a place is here a group of all pairs that are connected, directly or through other pairs, by a common place
    or acquisition; it has the name of its first place.
    """
    # Places and acquisitions are nodes of a graph; each pair is an edge between its place and its acquisition.
    places = {name: node for node, name in enumerate(sorted({pair.place for pair in pairs}))}
    acquisitions = {found: node for node, found in enumerate(dict.fromkeys(pair.acquisition for pair in pairs))}
    ends = [(places[pair.place], len(places) + acquisitions[pair.acquisition]) for pair in pairs]
    num_nodes = len(places) + len(acquisitions)
    rows, columns = np.array(ends, np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(ends), np.int8), (rows, columns)), shape=(num_nodes, num_nodes))
    component = connected_components(graph, directed=False)[1]
    first: dict[int, str] = {}
    for name, node in places.items():
        first.setdefault(int(component[node]), name)
    return [first[int(component[places[pair.place]])] for pair in pairs]


def fewest_places(confidence: float) -> int:
    """Smallest number of places for which an interval of this confidence is meaningful; 6 for 95 %.

    If n places differ by chance alone, all n differ in the same direction with probability 2 · ½ⁿ (the sign test).
    Where that is above 1 - confidence, even places that all agree are no evidence of a difference.
    """
    return math.ceil(math.log2(2 / (1 - confidence)))


def why_no_interval(num_places: int, confidence: float = CONFIDENCE) -> str:
    """Part of a sentence that states why there is no interval; "" where there are enough places for one."""
    needed = fewest_places(confidence)
    if num_places >= needed:
        return ""
    noun = "1 place is" if num_places == 1 else f"{num_places} places are"
    return f"{noun} too few for a {confidence:.0%} interval, which needs {needed}"


def place_resamples(places: Sequence[str], draws: int, seed: int) -> NDArray[np.int32]:
    """Draw whole places with replacement; a draw has as many places as there are.

    The weights `[draws, N]` are how often each of the pairs, whose places `[N]` are given, is in the draw. A larger
    number of draws does not change the first ones.
    """
    names, place_of = np.unique(np.asarray(places), return_inverse=True)
    weights = np.empty((draws, len(place_of)), np.int32)
    for row, random in zip(weights, _generators(seed, _PLACES, draws), strict=True):
        row[:] = np.bincount(random.integers(len(names), size=len(names)), minlength=len(names))[place_of]
    return weights


def score_intervals(
    scorer: Scorer, found: NDArray[Any], places: Sequence[str], weights: NDArray[np.int32]
) -> dict[str, tuple[float, float]]:
    """Ends (low, high) of the 95 % interval of each of the scorer's metrics; empty for too few places or no draws.

    `found` has what the scorer takes, `[N, …]`; `places` are those of the N pairs, `weights` `[draws, N]` are those of
    `place_resamples`.
    """
    if why_no_interval(len(set(places))) or not len(weights):
        return {}
    draws = scorer.draws(found, weights)
    return {name: _percentiles(drawn, CONFIDENCE) for name, drawn in draws.items()}


def over_seeds(draws: NDArray[Any], seed: int) -> NDArray[np.float64]:
    """Means `[B]` over seeds, drawn with replacement on each draw, so that their spread is that of places and seeds.

    With few seeds the spread is too small: the variance between S seeds is (S − 1) / S of the true one.

    Args:
        draws: scores `[S, B]`, one row per training seed, from the same B resamples of places.
        seed: random seed, the same for all rows that are compared, so that a draw has the same training seeds in all.
    """
    num_seeds, num_draws = draws.shape
    chosen = [random.integers(num_seeds, size=num_seeds) for random in _generators(seed, _SEEDS, num_draws)]
    return np.asarray(np.take_along_axis(draws, np.array(chosen).T, axis=0).mean(axis=0), np.float64)


def difference(draws_a: NDArray[Any], draws_b: NDArray[Any], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Ends (low, high) of the percentile interval of row a minus row b, each `[B]`, on the same B draws."""
    return _percentiles(np.asarray(draws_a, np.float64) - np.asarray(draws_b, np.float64), confidence)


@dataclass(frozen=True)
class Difference:
    """A paired bootstrap of a metric over places: challenger minus champion."""

    metric: str  # name of the metric
    difference: float  # difference of the scores over the whole test set
    low: float | None  # lower end of the interval; None where there are too few places for an interval
    high: float | None  # upper end, likewise
    confidence: float  # confidence of the interval, between 0 and 1
    resamples: int  # number of bootstrap draws
    num_places: int  # number of places in a draw, see `independent_places`

    @property
    def why_no_interval(self) -> str:
        """Part of a sentence that states why there is no interval; "" where there is one."""
        return why_no_interval(self.num_places, self.confidence)

    def loses_at_most(self, loss: float) -> bool:
        """Whether there is an interval, and its lower end is at most `loss` below the champion."""
        # The difference itself is not enough: a loss that a few pairs don't show may still exist.
        return self.low is not None and self.low >= -loss


def paired_differences(
    scorer: Scorer,
    challenger: NDArray[Any],
    champion: NDArray[Any],
    *,
    places: Sequence[str],
    resamples: int,
    confidence: float,
    seed: int,
) -> dict[str, Difference]:
    """Challenger minus champion by metric, with a percentile bootstrap: both are scored on the same draws of places.

    What the scorer takes of both is `[N, …]`; `places` are those of the N pairs, from `read_places`.
    """
    num_places = len(set(places))
    new, old = scorer.score(challenger), scorer.score(champion)
    ends: dict[str, tuple[float | None, float | None]] = dict.fromkeys(scorer.metrics, (None, None))
    if not why_no_interval(num_places, confidence):
        weights = place_resamples(places, resamples, seed)
        one, other = (scorer.draws(found, weights) for found in (challenger, champion))
        ends = {name: difference(one[name], other[name], confidence) for name in scorer.metrics}
    return {
        name: Difference(name, new[name] - old[name], *ends[name], confidence, resamples, num_places)
        for name in scorer.metrics
    }


def _percentiles(draws: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _generators(seed: int, stream: int, count: int) -> Any:
    return generators(seed, Purpose.RESAMPLE, ((stream, draw) for draw in range(count)))
