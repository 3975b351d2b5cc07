"""Pictures of the report: histograms as SVG, positions as a PNG; both on light and on dark ground."""

import base64
import io
from collections.abc import Mapping
from html import escape

import numpy as np
from numpy.typing import NDArray

from fusmae.data.index import SPLITS, Split
from fusmae.examination.diagnosis import BandSummary
from fusmae.examination.observe import HISTOGRAM_EDGES

SPLIT_COLOURS: dict[Split, str] = {"train": "#4a8fe0", "validation": "#e39b2d", "test": "#d0508e"}
_MAP_TEXT = "#808890"
# Bins beyond these shares of the pixels are not drawn: a few bright clouds would squeeze the rest.
_DRAWN = (0.001, 0.985)
_WIDTH, _HEIGHT = 300, 110


def histogram_svg(summary: BandSummary) -> str:
    """A band's histogram, its mean, and the published mean and standard deviation where there is one."""
    edges = HISTOGRAM_EDGES[summary.band.units]
    first, last = _drawn_bins(summary, edges)
    counts = summary.totals.histogram[first:last] / max(summary.totals.histogram[first:last].max(), 1)
    low, high = float(edges[first]), float(edges[last])

    def x(value: float) -> float:
        return round(float(np.clip((value - low) / (high - low), 0, 1)) * _WIDTH, 1)

    tops = [f"L{x(edges[first + i])} {_y(c)} L{x(edges[first + i + 1])} {_y(c)}" for i, c in enumerate(counts)]
    parts = [f'<path class="bars" d="M0 {_HEIGHT} {" ".join(tops)} L{_WIDTH} {_HEIGHT} Z"/>']
    if (published := summary.reference) is not None:
        left, right = x(published.mean - published.std), x(published.mean + published.std)
        parts.insert(0, f'<rect class="spread" x="{left}" y="0" width="{right - left:.1f}" height="{_HEIGHT}"/>')
        parts.append(_line("published", x(published.mean)))
    parts.append(_line("measured", x(summary.totals.mean)))
    units = summary.band.units
    parts.append(f'<line class="axis" x1="0" x2="{_WIDTH}" y1="{_HEIGHT}" y2="{_HEIGHT}"/>')
    for anchor, at, text in (("start", 0, f"{low:,.0f}"), ("end", _WIDTH, f"{high:,.0f} {units}")):
        parts.append(f'<text x="{at}" y="{_HEIGHT + 15}" text-anchor="{anchor}">{text}</text>')
    label = escape(f"Histogram of {summary.band.name}: mean {summary.totals.mean:.1f} {units}", quote=True)
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + 20}" role="img" aria-label="{label}">' + "".join(parts) + "</svg>"


def positions_png(positions: Mapping[Split, NDArray[np.float64]]) -> str:
    """Pairs by longitude and latitude, coloured by split, as a data URL; "" where no position is known."""
    from matplotlib.figure import Figure

    everywhere = np.concatenate([positions[split] for split in SPLITS])
    if not len(everywhere):
        return ""
    # A degree of longitude is shorter than one of latitude by the cosine of the latitude.
    shrink = max(float(np.cos(np.radians(everywhere[:, 1].mean()))), 0.1)
    wide, high = np.maximum(np.ptp(everywhere, axis=0), 0.1) * (shrink, 1)
    figure = Figure(figsize=(9, float(np.clip(9 * high / wide, 3, 9))), layout="constrained")
    axis = figure.subplots()
    # Half a million pairs as single pixels, sixty as dots.
    size = float(np.clip(30_000 / len(everywhere), 0.6, 40))
    for split in SPLITS:
        lon, lat = positions[split].T
        axis.scatter(lon, lat, s=size, c=SPLIT_COLOURS[split], label=split, linewidths=0, alpha=0.85)
    axis.set_aspect(1 / shrink, adjustable="datalim")
    axis.set_xlabel("longitude, degrees", color=_MAP_TEXT)
    axis.set_ylabel("latitude, degrees", color=_MAP_TEXT)
    axis.tick_params(colors=_MAP_TEXT)
    axis.grid(color=_MAP_TEXT, alpha=0.25)
    for spine in axis.spines.values():
        spine.set_color(_MAP_TEXT)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, transparent=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _drawn_bins(summary: BandSummary, edges: NDArray[np.float64]) -> tuple[int, int]:
    """First bin that is drawn, and the one after the last; the published spread is always in sight."""
    cumulative = np.cumsum(summary.totals.histogram) / max(summary.totals.histogram.sum(), 1)
    first, last = (int(np.searchsorted(cumulative, share)) for share in _DRAWN)
    if (published := summary.reference) is not None:
        spread = (published.mean - published.std, published.mean + published.std)
        left, right = np.searchsorted(edges, spread)
        first, last = min(first, int(left) - 1), max(last, int(right))
    bins = len(edges) - 1
    first = min(max(first - 1, 0), bins - 1)
    return first, min(max(last + 2, first + 1), bins)


def _y(share: float) -> float:
    return round(_HEIGHT - float(share) * (_HEIGHT - 4), 1)


def _line(kind: str, at: float) -> str:
    return f'<line class="{kind}" x1="{at}" x2="{at}" y1="0" y2="{_HEIGHT}"/>'
