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
from sklearn import config_context
from sklearn.metrics import accuracy_score, jaccard_score

from fusmae.config.training import LabelKind
from fusmae.data.index import Pair, read_index
from fusmae.data.randomness import Purpose, generators
from fusmae.errors import SourceError
from fusmae.evaluation.metrics import average_precisions

METRICS = ("micro_ap", "macro_ap")
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


def headline_draws(
    kind: LabelKind, labels: NDArray[Any], probabilities: NDArray[Any], weights: NDArray[np.int32]
) -> NDArray[np.float64]:
    """The headline score `[draws]`: macro AP over the classes in the draw (0 if it has none), or accuracy.

    Arguments are those of `average_precision_draws`; labels of `multiclass`, whose headline is accuracy, are one-hot.
    """
    if kind == "multilabel":
        return average_precision_draws(labels, probabilities, weights, ("macro_ap",))["macro_ap"]
    truth, predicted = labels.argmax(axis=1), probabilities.argmax(axis=1)
    with config_context(assume_finite=True, skip_parameter_validation=True):
        return np.array([accuracy_score(truth, predicted, sample_weight=row) for row in weights], np.float64)


def average_precision_draws(
    labels: NDArray[Any], probabilities: NDArray[Any], weights: NDArray[np.int32], metrics: Sequence[str] = METRICS
) -> dict[str, NDArray[np.float64]]:
    """Average precision `[draws]` by metric, 0 where the draw has no label.

    Args:
        labels: labels `[N, K]`, 0 or 1.
        probabilities: probabilities `[N, K]` in 0..1.
        weights: weights `[draws, N]` from `place_resamples`.
        metrics: names: micro_ap, over all (pair, class) decisions; macro_ap, over the classes in the draw.
    """
    import torch

    # scikit-learn's function accepts weights but takes three times as long, mostly to check its arguments.
    from torchmetrics.functional.classification import multilabel_average_precision

    # At least float32, because sorting half precision is slow on a CPU.
    chances = torch.from_numpy(probabilities.astype(np.promote_types(probabilities.dtype, np.float32)))
    truth = torch.from_numpy(labels > 0).long()
    found = {name: np.zeros(len(weights)) for name in metrics}
    for at, row in enumerate(weights):
        pairs = torch.from_numpy(np.repeat(np.arange(len(row)), row))
        drawn, given = truth[pairs], chances[pairs]
        present = drawn.any(dim=0).nonzero().flatten()
        if not len(present):
            continue
        for name, scores in found.items():
            # Micro AP includes absent classes, because predictions of them are wrong.
            columns = present if name == "macro_ap" else torch.arange(truth.shape[1])
            how: Any = {"num_labels": len(columns), "average": name.removesuffix("_ap"), "validate_args": False}
            scores[at] = multilabel_average_precision(given[:, columns], drawn[:, columns], **how)
    return found


def score_intervals(
    labels: NDArray[Any], probabilities: NDArray[Any], places: Sequence[str], weights: NDArray[np.int32]
) -> dict[str, tuple[float, float]]:
    """Ends (low, high) of the 95 % interval of micro and macro AP; empty for too few `places` (`[N]`) or no draws.

    Other arguments are those of `average_precision_draws`.
    """
    if why_no_interval(len(set(places))) or not len(weights):
        return {}
    draws = average_precision_draws(labels, probabilities, weights)
    return {name: _percentiles(found, CONFIDENCE) for name, found in draws.items()}


def miou_draws(confusions: NDArray[Any], weights: NDArray[np.int32]) -> NDArray[np.float64]:
    """Mean intersection over union `[draws]`, over the classes that have true pixels in the draw; 0 if none has.

    Args:
        confusions: pixel counts `[N, K, K]` of each pair, true classes in rows, predicted ones in columns.
        weights: weights `[draws, N]` from `place_resamples`.
    """
    num_classes = confusions.shape[1]
    # Every couple (true, predicted) appears once, weighted by its number of pixels.
    truth, predicted = np.indices((num_classes, num_classes)).reshape(2, -1)
    counts = weights.astype(np.float64) @ confusions.reshape(len(confusions), -1)
    found = np.zeros(len(weights))
    with config_context(assume_finite=True, skip_parameter_validation=True):
        for at, cells in enumerate(counts):
            present = np.flatnonzero(cells.reshape(num_classes, num_classes).sum(axis=1))
            if not len(present):
                continue
            found[at] = jaccard_score(truth, predicted, labels=present, average="macro", sample_weight=cells)
    return found


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
    challenger: NDArray[Any],
    champion: NDArray[Any],
    labels: NDArray[Any],
    *,
    places: Sequence[str],
    resamples: int,
    confidence: float,
    seed: int,
) -> dict[str, Difference]:
    """Challenger minus champion by metric, with a percentile bootstrap: both are scored on the same draws of places.

    Probabilities and labels (0 or 1) are `[N, K]`; `places` are those of the N pairs, from `read_places`.
    """
    num_places = len(set(places))
    whole = zip(METRICS, average_precisions(labels, challenger), average_precisions(labels, champion), strict=True)
    ends: dict[str, tuple[float | None, float | None]] = dict.fromkeys(METRICS, (None, None))
    if not why_no_interval(num_places, confidence):
        weights = place_resamples(places, resamples, seed)
        one, other = (average_precision_draws(labels, found, weights) for found in (challenger, champion))
        ends = {name: difference(one[name], other[name], confidence) for name in METRICS}
    return {
        name: Difference(name, one_score - other_score, *ends[name], confidence, resamples, num_places)
        for name, one_score, other_score in whole
    }


def _percentiles(draws: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _generators(seed: int, stream: int, count: int) -> Any:
    return generators(seed, Purpose.RESAMPLE, ((stream, draw) for draw in range(count)))
