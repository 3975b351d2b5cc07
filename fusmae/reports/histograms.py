"""Histograms of a band's pixels, as the lines that the pages draw as SVG."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusmae.examination.examine import BandSummary
from fusmae.examination.observe import histogram_edges
from fusmae.examination.values import ValueTotals
from fusmae.units import UNITS

_WIDTH, _HEIGHT = 300, 110
_BINS = 60
# Pixels beyond these shares are not drawn: a few bright clouds would squeeze the rest.
_DRAWN_BINS = (0.001, 0.985)
_DRAWN_PIXELS = (0.002, 0.985)


@dataclass(frozen=True)
class Histogram:
    """One chart, in units of its view box, whose y points down."""

    label: str  # description for readers who can't see it
    low: str  # value at its left end, with its units where they are shown
    high: str  # value at its right end, likewise
    bars: str  # path of the filled histogram
    outline: str  # path of a second histogram over it; "" for none
    lines: tuple[tuple[str, float], ...]  # vertical lines as (class, x)
    spread: tuple[float, float] | None = None  # left and right end of a shaded range; None for none
    width: int = _WIDTH
    height: int = _HEIGHT


def band_histogram(summary: BandSummary) -> Histogram:
    """A band's histogram, its mean, and the published mean and standard deviation where there is one."""
    units, mean = summary.band.units, summary.totals.mean
    edges = histogram_edges(summary.band.unit)
    first, last = _drawn_bins(summary, edges)
    low, high = float(edges[first]), float(edges[last])
    spread: tuple[float, float] | None = None
    lines: tuple[tuple[str, float], ...] = (("measured", _x(mean, low, high)),)
    if (published := summary.reference) is not None:
        spread = (_x(published.mean - published.std, low, high), _x(published.mean + published.std, low, high))
        lines = (("published", _x(published.mean, low, high)), *lines)
    return Histogram(
        f"Histogram of {summary.band.name}: mean {mean:.1f} {units}",
        f"{low:,.0f}",
        f"{high:,.0f} {units}",
        _filled(_steps(summary.totals.histogram[first:last], edges[first : last + 1])),
        "",
        lines,
        spread,
    )


def value_histogram(totals: ValueTotals, edges: NDArray[np.float64], title: str) -> Histogram:
    """The numbers of a regression in one split, and their mean."""
    low, high = float(edges[0]), float(edges[-1])
    return Histogram(
        f"Histogram of {title}: mean {totals.mean:.4g}",
        f"{low:.4g}",
        f"{high:.4g}",
        _filled(_steps(totals.histogram, edges)),
        "",
        (("measured", _x(totals.mean, low, high)),),
    )


def overlaid_histograms(name: str, units: str, train: NDArray[np.float32], scene: NDArray[np.float32]) -> Histogram:
    """A band's training pixels as bars, the scene's as an outline, each to its own height, and a line at each mean.

    `train` and `scene` are any samples of the pixels, in `units`.
    """
    samples = (train.ravel().astype(np.float64), scene.ravel().astype(np.float64))
    ends = np.array([np.quantile(sample, _DRAWN_PIXELS) for sample in samples])
    low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
    high = max(high, low + 1e-3)
    edges = np.linspace(low, high, _BINS + 1)
    bars, outline = (_steps(np.histogram(sample, edges)[0], edges) for sample in samples)
    (train_mean, scene_mean), digits = (float(sample.mean()) for sample in samples), UNITS[units].digits
    return Histogram(
        f"Histogram of {name}: training mean {train_mean:.1f}, here {scene_mean:.1f} {units}",
        f"{low:{digits}}",
        f"{high:{digits}} {units}",
        _filled(bars),
        outline,
        (("published", _x(train_mean, low, high)), ("measured", _x(scene_mean, low, high))),
    )


def _x(value: float, low: float, high: float) -> float:
    return round(float(np.clip((value - low) / (high - low), 0, 1)) * _WIDTH, 1)


def _steps(counts: NDArray[np.generic], edges: NDArray[np.float64]) -> str:
    """A path from the ground on the left along the tops of the bins, the highest 4 below the upper edge."""
    xs = (edges - edges[0]) / (edges[-1] - edges[0]) * _WIDTH
    ys = _HEIGHT - counts / max(counts.max(), 1) * (_HEIGHT - 4)
    tops = (f"L{left:.1f} {y:.1f} L{right:.1f} {y:.1f}" for left, right, y in zip(xs, xs[1:], ys, strict=False))
    return f"M0 {_HEIGHT} {' '.join(tops)}"


def _filled(path: str) -> str:
    return f"{path} L{_WIDTH} {_HEIGHT} Z"


def _drawn_bins(summary: BandSummary, edges: NDArray[np.float64]) -> tuple[int, int]:
    """First bin that is drawn, and the one after the last; the published spread is always in sight."""
    cumulative = np.cumsum(summary.totals.histogram) / max(summary.totals.histogram.sum(), 1)
    first, last = (int(np.searchsorted(cumulative, share)) for share in _DRAWN_BINS)
    if (published := summary.reference) is not None:
        spread = (published.mean - published.std, published.mean + published.std)
        left, right = np.searchsorted(edges, spread)
        first, last = min(first, int(left) - 1), max(last, int(right))
    bins = len(edges) - 1
    first = min(max(first - 1, 0), bins - 1)
    return first, min(max(last + 2, first + 1), bins)
