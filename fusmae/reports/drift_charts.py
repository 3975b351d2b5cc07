"""Pictures of the drift report: two histograms of a band, one over the other, as SVG."""

from html import escape

import numpy as np
from numpy.typing import NDArray

_WIDTH, _HEIGHT = 300, 110
_BINS = 60
# Pixels beyond these shares of either are not drawn: a few bright clouds would squeeze the rest.
_DRAWN = (0.002, 0.985)


def overlay_svg(name: str, units: str, train: NDArray[np.float32], scene: NDArray[np.float32]) -> str:
    """A band's training pixels as bars, the scene's as an outline, each to its own height, and a line at each mean.

    Args:
        name: of the band.
        units: of its pixels.
        train: any sample of the training pixels.
        scene: likewise of the scene's.
    """
    samples = (train.ravel().astype(np.float64), scene.ravel().astype(np.float64))
    ends = np.array([np.quantile(sample, _DRAWN) for sample in samples])
    low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
    high = max(high, low + 1e-3)
    edges = np.linspace(low, high, _BINS + 1)
    counts = [np.histogram(sample, edges)[0] for sample in samples]
    steps = [_steps(count / max(count.max(), 1)) for count in counts]
    means = [float(np.clip((sample.mean() - low) / (high - low), 0, 1)) * _WIDTH for sample in samples]
    digits = ",.1f" if units == "dB" else ",.0f"
    parts = [
        f'<path class="bars" d="M0 {_HEIGHT} {steps[0]} L{_WIDTH} {_HEIGHT} Z"/>',
        f'<path style="fill:none;stroke:var(--measured);stroke-width:1.5" d="M0 {_HEIGHT} {steps[1]}"/>',
        f'<line class="published" x1="{means[0]:.1f}" x2="{means[0]:.1f}" y1="0" y2="{_HEIGHT}"/>',
        f'<line class="measured" x1="{means[1]:.1f}" x2="{means[1]:.1f}" y1="0" y2="{_HEIGHT}"/>',
        f'<line class="axis" x1="0" x2="{_WIDTH}" y1="{_HEIGHT}" y2="{_HEIGHT}"/>',
        f'<text x="0" y="{_HEIGHT + 15}">{low:{digits}}</text>',
        f'<text x="{_WIDTH}" y="{_HEIGHT + 15}" text-anchor="end">{high:{digits}} {units}</text>',
    ]
    label = escape(f"Histogram of {name}: training mean {samples[0].mean():.1f}, here {samples[1].mean():.1f} {units}")
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + 20}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _steps(heights: NDArray[np.float64]) -> str:
    xs = np.linspace(0, _WIDTH, len(heights) + 1)
    ys = _HEIGHT - heights * (_HEIGHT - 4)
    return " ".join(f"L{left:.1f} {y:.1f} L{right:.1f} {y:.1f}" for left, right, y in zip(xs, xs[1:], ys, strict=False))
