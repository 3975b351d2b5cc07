"""Two models on the same pairs: how far apart are their scores, and how sure is that?"""

from collections.abc import Sequence
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
        resamples: bootstrap draws.
        num_drawn: places in a draw, or pairs where places were not told apart.
    """

    metric: str
    difference: float
    low: float
    high: float
    confidence: float
    resamples: int
    num_drawn: int


def paired_differences(
    challenger: NDArray[Any],
    champion: NDArray[Any],
    labels: NDArray[Any],
    *,
    resamples: int,
    confidence: float,
    seed: int,
    places: Sequence[str] | None = None,
) -> dict[str, Difference]:
    """Challenger minus champion, with a percentile bootstrap: both are scored on the same draws.

    Whole places are drawn, for pairs of one place are alike, and an interval over pairs would be too narrow (Field and
    Welsh 2007, "Bootstrapping clustered data").

    Args:
        challenger: probabilities `[N, K]`.
        champion: probabilities `[N, K]` on the same pairs.
        labels: `[N, K]` 0 or 1.
        resamples: draws.
        confidence: of the interval.
        seed: of the draws.
        places: `[N]`, of each pair, two of them at least; None draws single pairs.

    Returns:
        By metric.
    """
    from scipy.stats import bootstrap

    named = np.arange(len(labels)) if places is None else np.unique(places, return_inverse=True)[1]
    rows_of = [np.flatnonzero(named == place) for place in range(named.max() + 1)]

    def differences(drawn: NDArray[Any]) -> NDArray[Any]:
        rows = np.concatenate([rows_of[place] for place in drawn])
        one, other = (np.array(average_precisions(labels[rows], found[rows])) for found in (challenger, champion))
        return np.asarray(one - other)

    every = np.arange(len(rows_of))
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
        name: Difference(name, float(value), float(low), float(high), confidence, resamples, len(rows_of))
        for name, value, low, high in ends
    }
