"""Two models on the same pairs: how far apart are their scores, and how sure is that?"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.evaluation.metrics import average_precisions

METRICS = ("micro_ap", "macro_ap")


@dataclass(frozen=True)
class Difference:
    """A paired bootstrap of a metric: challenger minus champion.

    Attributes:
        metric: its name.
        difference: over the whole test set.
        low: lower end of the interval.
        high: upper end.
        confidence: of the interval.
        resamples: bootstrap draws over pairs.
    """

    metric: str
    difference: float
    low: float
    high: float
    confidence: float
    resamples: int


def paired_differences(
    challenger: NDArray[Any],
    champion: NDArray[Any],
    labels: NDArray[Any],
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> dict[str, Difference]:
    """Challenger minus champion, with a percentile bootstrap over pairs: both are scored on the same draws.

    Args:
        challenger: probabilities `[N, K]`.
        champion: probabilities `[N, K]` on the same pairs.
        labels: `[N, K]` 0 or 1.
        resamples: draws.
        confidence: of the interval.
        seed: of the draws.

    Returns:
        By metric.
    """
    from scipy.stats import bootstrap

    def differences(rows: NDArray[Any]) -> NDArray[Any]:
        one, other = (np.array(average_precisions(labels[rows], found[rows])) for found in (challenger, champion))
        return np.asarray(one - other)

    every = np.arange(len(labels))
    interval = bootstrap(
        (every,),
        differences,
        vectorized=False,
        n_resamples=resamples,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    ends = zip(METRICS, differences(every), interval.low, interval.high, strict=True)
    return {
        name: Difference(name, float(value), float(low), float(high), confidence, resamples)
        for name, value, low, high in ends
    }
