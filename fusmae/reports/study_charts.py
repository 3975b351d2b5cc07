"""Charts of the study's page: matplotlib's SVG, its colours left to the page's style sheet."""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fusmae.study.curves import MicroCurve
from fusmae.study.summary import Study, percent

# A marker and the same in the key: colour alone does not tell lines apart for everybody.
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
GLYPHS = ("●", "■", "▲", "◆", "▼", "✚", "✖", "★")
_TEXT, _GRID = "#010203", "#010204"
_SIZE_INCHES = (3.9, 2.6)


@dataclass(frozen=True)
class Chart:
    """What the page draws as one SVG element.

    Attributes:
        title: what stands above it.
        label: description for readers who can't see it.
        view_box: of the element.
        drawing: markup inside the element; matplotlib has escaped its texts.
    """

    title: str
    label: str
    view_box: str
    drawing: str


def label_efficiency(study: Study) -> list[Chart]:
    """The headline score over the share of labels, a chart a protocol that has several shares."""
    charts = []
    for protocol, _ in study.largest_uses:
        uses = [use for use in study.uses if use[0] == protocol]
        if len(uses) < 2:
            continue
        metric = next(line.metric for line in study.lines if line.protocol == protocol)

        def draw(axis: Any, uses: Sequence[tuple[str, float]] = uses) -> None:
            for at, variant in enumerate(study.variants):
                lines = [line for use in uses if (line := study.line(variant, use)) is not None]
                shares = [line.share for line in lines]
                colour = _colour(at)
                low, high = [line.low for line in lines], [line.high for line in lines]
                axis.fill_between(shares, low, high, color=colour, alpha=0.13, lw=0)
                means = [line.headline.mean for line in lines]
                axis.plot(shares, means, color=colour, marker=_MARKERS[at % len(_MARKERS)], ms=4, lw=1.6)
            axis.set_xscale("log")
            axis.set_xticks([share for _, share in uses], [percent(share) for _, share in uses])
            axis.minorticks_off()

        charts.append(_chart(draw, protocol, "labels", metric))
    return charts


def training(study: Study) -> list[Chart]:
    """Training curves, a chart a name, a line a cell."""
    names = dict.fromkeys(name for found in study.cells for name in found.cell.history)
    charts = []
    for name in names:

        def draw(axis: Any, name: str = name) -> None:
            for found in study.cells:
                points = found.cell.history.get(name, ())
                if points:
                    colour = _colour(study.variants.index(found.cell.variant))
                    axis.plot(*zip(*points, strict=True), color=colour, lw=1.2, alpha=0.75)

        charts.append(_chart(draw, name, "epoch", ""))
    return charts


def precision_recall(study: Study, curves: Sequence[MicroCurve]) -> list[Chart]:
    """Micro-averaged precision over recall, a chart a protocol and share."""
    charts = []
    for use in dict.fromkeys(curve.use for curve in curves):

        def draw(axis: Any, use: tuple[str, float] = use) -> None:
            for curve in curves:
                if curve.use == use:
                    colour = _colour(study.variants.index(curve.variant))
                    axis.step(curve.recall, curve.precision, where="post", color=colour, lw=1.3)
            axis.set(xlim=(0, 1), ylim=(0, 1.02))

        charts.append(_chart(draw, f"{use[0]}, {percent(use[1])} of labels", "recall", "precision"))
    return charts


def _colour(at: int) -> str:
    # Stands for the page's variable --line-0 and so on until the SVG is written.
    return f"#0101{16 + at % len(_MARKERS):02x}"


def _chart(draw: Callable[[Any], None], title: str, x_label: str, y_label: str) -> Chart:
    """A chart on transparent ground."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # Text stays text, in the page's font; equal input gives equal bytes.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": title, "font.size": 9}):
        figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
        axis = figure.subplots()
        draw(axis)
        axis.set_xlabel(x_label, color=_TEXT)
        axis.set_ylabel(y_label, color=_TEXT)
        axis.tick_params(colors=_TEXT, color=_GRID)
        axis.grid(color=_GRID, lw=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        for spine in axis.spines.values():
            spine.set_color(_GRID)
        buffer = io.StringIO()
        # The metadata would name servers.
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    label = f"{title}: {y_label} over {x_label}" if y_label else f"{title} over {x_label}"
    return Chart(title, label, *_coloured_by_the_page(buffer.getvalue()))


def _coloured_by_the_page(svg: str) -> tuple[str, str]:
    """The view box of an SVG document, and what is inside it."""
    (view_box,) = re.findall(r"<svg[^>]* viewBox=\"([^\"]+)\"", svg)
    drawing = svg[svg.index(">", svg.index("<svg")) + 1 : svg.rindex("</svg>")]
    drawing = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", drawing, flags=re.DOTALL)
    drawing = re.sub(r'<g id="[^"]*"', "<g", drawing)
    drawing = re.sub(r"font-family: [^;\"]+", "font-family: system-ui, sans-serif", drawing)
    drawing = drawing.replace(_TEXT, "var(--quiet)").replace(_GRID, "var(--line)")
    for at in range(len(_MARKERS)):
        drawing = drawing.replace(_colour(at), f"var(--line-{at})")
    return view_box, drawing
