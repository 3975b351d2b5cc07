"""Two models on the same pairs: the difference of their scores, and an interval for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from fusmae.evaluation.metrics import average_precisions
from fusmae.evaluation.resampling import METRICS, average_precision_draws, difference, place_resamples, why_no_interval


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

    Args:
        challenger: probabilities `[N, K]` of the challenger.
        champion: probabilities `[N, K]` of the champion on the same pairs.
        labels: labels `[N, K]`, 0 or 1.
        places: names `[N]` of the pairs' places, from `read_places`.
        resamples: number of bootstrap draws.
        confidence: confidence of the interval, between 0 and 1.
        seed: random seed of the draws.
    """
    num_places = len(set(places))
    whole = zip(average_precisions(labels, challenger), average_precisions(labels, champion), strict=True)
    apart = {name: one - other for name, (one, other) in zip(METRICS, whole, strict=True)}
    ends: dict[str, tuple[float | None, float | None]] = dict.fromkeys(METRICS, (None, None))
    if not why_no_interval(num_places, confidence):
        weights = place_resamples(places, resamples, seed)
        one, other = (average_precision_draws(labels, found, weights) for found in (challenger, champion))
        ends = {name: difference(one[name], other[name], confidence) for name in METRICS}
    return {
        name: Difference(name, value, *ends[name], confidence, resamples, num_places) for name, value in apart.items()
    }
