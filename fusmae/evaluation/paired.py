"""Two models on the same pairs: how far apart are their scores, and how sure is that?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from fusmae.evaluation.metrics import average_precisions
from fusmae.evaluation.resampling import (
    METRICS,
    average_precision_draws,
    difference,
    place_resamples,
    why_no_interval,
)


@dataclass(frozen=True)
class Difference:
    """A paired bootstrap of a metric over places: challenger minus champion.

    Attributes:
        metric: its name.
        difference: over the whole test set.
        low: lower end of the interval; None where there are too few places for one.
        high: upper end, likewise.
        confidence: of the interval.
        resamples: bootstrap draws.
        num_places: that a draw consists of, see `independent_places`.
    """

    metric: str
    difference: float
    low: float | None
    high: float | None
    confidence: float
    resamples: int
    num_places: int

    @property
    def why_no_interval(self) -> str:
        """Sentence part that says why there is no interval; "" where there is one."""
        return why_no_interval(self.num_places, self.confidence)

    def loses_at_most(self, loss: float) -> bool:
        """Whether the interval, which must be there, reaches no further than `loss` below the champion."""
        # Not the difference itself: that a loss was not seen on a few pairs does not show that there is none.
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
    """Challenger minus champion, with a percentile bootstrap: both are scored on the same draws of places.

    Args:
        challenger: probabilities `[N, K]`.
        champion: probabilities `[N, K]` on the same pairs.
        labels: `[N, K]` 0 or 1.
        places: `[N]`, of each pair, from `read_places`.
        resamples: draws.
        confidence: of the interval.
        seed: of the draws.

    Returns:
        By metric.
    """
    num_places = len(set(places))
    whole = zip(average_precisions(labels, challenger), average_precisions(labels, champion), strict=True)
    apart = {name: one - other for name, (one, other) in zip(METRICS, whole, strict=True)}
    if why_no_interval(num_places, confidence):
        return {
            name: Difference(name, value, None, None, confidence, resamples, num_places)
            for name, value in apart.items()
        }
    weights = place_resamples(places, resamples, seed)
    one, other = (average_precision_draws(labels, found, weights) for found in (challenger, champion))
    found = {name: difference(one[name], other[name], confidence) for name in METRICS}
    return {
        name: Difference(name, value, found[name].low, found[name].high, confidence, resamples, num_places)
        for name, value in apart.items()
    }
