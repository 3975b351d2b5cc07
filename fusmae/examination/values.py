"""The numbers of a regression by split: how many there are, their mean and spread, and how they are distributed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.data.index import SPLITS, Split
from fusmae.examination.observe import Observation

_NUM_BINS = 30


@dataclass(frozen=True)
class ValueTotals:
    """The numbers of one split; without any, all but `count` and `histogram` are NaN."""

    count: int  # number of numbers: of pixels, or of pairs
    mean: float  # mean of the numbers
    std: float  # standard deviation of the numbers
    lowest: float  # smallest number
    highest: float  # largest number
    histogram: NDArray[np.int64]  # number of samples by bin of `Values.edges`; each pair has as many

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; None for what no number has."""
        known = {"mean": self.mean, "std": self.std, "min": self.lowest, "max": self.highest}
        return {"count": self.count, **{name: value if self.count else None for name, value in known.items()}}


@dataclass(frozen=True)
class Values:
    """The numbers of all splits."""

    edges: NDArray[np.float64]  # edges of the bins of all histograms
    by_split: Mapping[Split, ValueTotals]  # numbers of each split


def values_of(observed: Observation) -> Values:
    """Return the numbers that shards of a regression hold."""
    moments, (low, high) = observed.values, (0.0, 1.0)
    if moments.size and moments[:, 0].any():
        low, high = float(np.nanmin(moments[:, 3])), float(np.nanmax(moments[:, 4]))
    edges = np.linspace(low, max(high, np.nextafter(low, np.inf)), _NUM_BINS + 1)
    splits = np.array(observed.splits, dtype=object)
    return Values(edges, {split: _totals(observed, splits == split, edges) for split in SPLITS})


def _totals(observed: Observation, rows: NDArray[np.bool_], edges: NDArray[np.float64]) -> ValueTotals:
    moments = observed.values[rows] if observed.values.size else np.zeros((0, 5))
    count, mean, squares, lowest, highest = moments[moments[:, 0] > 0].T
    if not len(count):
        return ValueTotals(0, *(float("nan"),) * 4, np.zeros(_NUM_BINS, np.int64))
    total = float(count.sum())
    overall = float((count * mean).sum() / total)
    spread = float((squares + count * (mean - overall) ** 2).sum() / total)
    quantiles = observed.quantiles[rows]
    histogram, _ = np.histogram(quantiles[np.isfinite(quantiles)], edges)
    return ValueTotals(int(total), overall, spread**0.5, float(lowest.min()), float(highest.max()), histogram)
