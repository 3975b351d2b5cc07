"""Bootstrap over places and seeds, the same draws for every row: so the difference of two rows is a paired one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from fusmae.data.randomness import Purpose, generators

# Streams of one seed.
_PLACES, _SEEDS = 0, 1


@dataclass(frozen=True)
class DrawnDifference:
    """How far two rows are apart.

    Attributes:
        mean: of the draws' differences.
        low: lower end of the percentile interval.
        high: upper end.
        share_below_zero: of the draws.
    """

    mean: float
    low: float
    high: float
    share_below_zero: float


def place_resamples(places: Sequence[str], draws: int, seed: int) -> NDArray[np.int32]:
    """Draw whole places with replacement, as many as there are.

    Pairs of one place are alike, and an interval over pairs would be too narrow (Field and Welsh 2007, "Bootstrapping
    clustered data").

    Args:
        places: `[N]`, of each pair.
        draws: how many; more of them leave the first ones as they are.
        seed: of the draws.

    Returns:
        `[draws, N]`: how often each pair is in the draw.
    """
    names, place_of = np.unique(np.asarray(places), return_inverse=True)
    weights = np.empty((draws, len(place_of)), np.int32)
    for row, random in zip(weights, _generators(seed, _PLACES, draws), strict=True):
        row[:] = np.bincount(random.integers(len(names), size=len(names)), minlength=len(names))[place_of]
    return weights


def headline_draws(
    kind: Literal["multilabel", "multiclass"],
    labels: NDArray[Any],
    probabilities: NDArray[Any],
    weights: NDArray[np.int32],
) -> NDArray[np.float64]:
    """The headline score on each draw.

    Args:
        kind: multilabel, macro AP over the classes that the draw has (0 if it has none); multiclass, accuracy.
        labels: `[N, K]` 0 or 1; one-hot for `multiclass`.
        probabilities: `[N, K]` in 0..1.
        weights: `[draws, N]` from `place_resamples`.

    Returns:
        `[draws]`.
    """
    if kind == "multilabel":
        return _macro_aps(labels, probabilities, weights)
    from sklearn import config_context
    from sklearn.metrics import accuracy_score

    truth, predicted = labels.argmax(axis=1), probabilities.argmax(axis=1)
    with config_context(assume_finite=True, skip_parameter_validation=True):
        return np.array([accuracy_score(truth, predicted, sample_weight=row) for row in weights], np.float64)


def _macro_aps(labels: NDArray[Any], probabilities: NDArray[Any], weights: NDArray[np.int32]) -> NDArray[np.float64]:
    # scikit-learn's, which takes weights, needs three times as long: most of it checks its arguments.
    from torchmetrics.functional.classification import multilabel_average_precision

    # float32 at least: half precision is slow to sort on a CPU.
    chances = torch.from_numpy(probabilities.astype(np.promote_types(probabilities.dtype, np.float32)))
    truth = torch.from_numpy(labels > 0).long()
    found = np.zeros(len(weights))
    for at, row in enumerate(weights):
        pairs = torch.from_numpy(np.repeat(np.arange(len(row)), row))
        drawn = truth[pairs]
        present = drawn.any(dim=0).nonzero().flatten()
        if len(present):
            found[at] = multilabel_average_precision(
                chances[pairs][:, present], drawn[:, present], num_labels=len(present), validate_args=False
            )
    return found


def miou_draws(confusions: NDArray[Any], weights: NDArray[np.int32]) -> NDArray[np.float64]:
    """Mean intersection over union on each draw, over the classes of which it has true pixels; 0 if none.

    Args:
        confusions: `[N, K, K]` pixel counts of each pair, rows true, columns predicted.
        weights: `[draws, N]` from `place_resamples`.

    Returns:
        `[draws]`.
    """
    from sklearn import config_context
    from sklearn.metrics import jaccard_score

    num_classes = confusions.shape[1]
    # Every (true, predicted) couple once, weighted by how many pixels are like that.
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
    """The mean over seeds on each draw, the seeds drawn with replacement: so its spread is that of places and seeds.

    Of few seeds the spread comes out too small: the variance between S of them is (S − 1) / S of the true one.

    Args:
        draws: `[S, B]`, a row a seed, from the same resamples of places.
        seed: of the draws; the same one for rows that are to be compared, which then have the same seeds in a draw.

    Returns:
        `[B]`.
    """
    num_seeds, num_draws = draws.shape
    chosen = [random.integers(num_seeds, size=num_seeds) for random in _generators(seed, _SEEDS, num_draws)]
    return np.asarray(np.take_along_axis(draws, np.array(chosen).T, axis=0).mean(axis=0), np.float64)


def difference(draws_a: NDArray[Any], draws_b: NDArray[Any], confidence: float = 0.95) -> DrawnDifference:
    """Row a minus row b, draw by draw.

    Args:
        draws_a: `[B]` from `headline_draws`, `miou_draws` or `over_seeds`.
        draws_b: `[B]` likewise, on the same draws.
        confidence: of the percentile interval.
    """
    apart = np.asarray(draws_a, np.float64) - np.asarray(draws_b, np.float64)
    low, high = np.quantile(apart, [(1 - confidence) / 2, (1 + confidence) / 2])
    return DrawnDifference(float(apart.mean()), float(low), float(high), float((apart < 0).mean()))


def _generators(seed: int, stream: int, count: int) -> Any:
    return generators(seed, Purpose.RESAMPLE, ((stream, draw) for draw in range(count)))
