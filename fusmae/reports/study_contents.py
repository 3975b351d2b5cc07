"""The tables and charts of the study's page: rows as plain values, charts as SVG."""

import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from fusmae.study.comparisons import Question
from fusmae.study.curves import Confusion, MicroCurve, ValueScatter
from fusmae.study.results import HEADLINE
from fusmae.study.summary import DIGITS, Spread, Study, SummaryRow, Use, percent, score_name, spread, spreads

_COSTS = {
    "parameters": ("parameters", ",.0f"),
    "pretraining, s": ("pretrain_seconds", ",.0f"),
    "pairs/s": ("pairs_per_second", ",.1f"),
}
FILLS = ("band mean", "nearest")
RETRIEVED = ("recall@1", "chance@1", "recall@5", "chance@5")

Columns = list[tuple[str, str]]
"""Class and name of each."""


def columns(names: Iterable[str], kind: str = "number") -> Columns:
    """Columns of one class."""
    return [(kind, name) for name in names]


def shares(question: Question) -> dict[float, str]:
    """Every share of labels with an answer to a question, and its name."""
    return {share: f"{percent(share)} of labels" for share in sorted({share for _, share in question.answers})}


def use_title(use: Use) -> str:
    """`probe, 10 % of labels`."""
    return f"{use[0]}, {percent(use[1])} of labels"


def listed(uses: Sequence[Use]) -> str:
    """`probe 1 %, 10 %; finetune 10 %`."""
    of_protocol = groupby(uses, key=lambda use: use[0])
    return "; ".join(f"{name} {', '.join(percent(share) for _, share in found)}" for name, found in of_protocol)


def origins(study: Study) -> dict[str, str]:
    """Run, commit and data of a variant's cells, a line each, by variant."""
    lines: dict[str, list[str]] = {}
    for cell in (found.cell for found in study.cells):
        run, commit, data = map(cell.origin.get, ("run", "commit", "data"))
        lines.setdefault(cell.variant, []).append(f"seed {cell.seed}: run {run}, commit {commit}, data {data}")
    return {variant: "\n".join(of_variant) for variant, of_variant in lines.items()}


def score_names(study: Study) -> dict[str, str]:
    """Names for people of all scores, by name."""
    return {name: score_name(name) for line in study.lines for name in line.scores}


def metric(study: Study, use: Use) -> str:
    """The headline score's name, for people."""
    return next(line.metric for line in study.lines if line.use == use)


def score_columns(study: Study) -> tuple[list[tuple[str, int]], Columns]:
    """What stands above neighbouring columns of the main table and how many; the columns."""
    above = ["", *(f"{use[0]}, {metric(study, use)}" for use in study.uses), *("cost" for _ in _COSTS)]
    shares = [percent(share) for _, share in study.uses]
    groups = [(name, len(list(same))) for name, same in groupby(above)]
    return groups, columns(["variant"], "") + columns([*shares, *_COSTS])


def costs(study: Study, variant: str) -> Iterator[tuple[float | None, str]]:
    """Means over seeds and how they are shown; None where a cost is unknown."""
    for name, shown in _COSTS.values():
        values = [found.cell.cost[name] for found in study.of(variant) if name in found.cell.cost]
        mean = spread(values).mean if values else None
        yield mean, "" if mean is None else format(mean, shown)


def conditions(study: Study) -> Iterator[tuple[str, Use, list[str], list[str]]]:
    """Title, use, conditions and variants of each table with more than one condition."""
    for use in study.uses:
        of_use = [line for line in study.lines if line.use == use]
        given = [name for name in study.conditions if any(line.condition == name for line in of_use)]
        if len(given) > 1:
            variants = list(dict.fromkeys(line.variant for line in of_use))
            yield f"{use_title(use)} ({metric(study, use)})", use, given, variants


def chosen_rows(study: Study) -> tuple[int, int]:
    """Places of the lines that the comparison begins with: the reference's and a rival's."""
    firsts = [next((line for use in study.uses if (line := study.line(name, use))), None) for name in study.variants]
    first, rival = firsts[0], next(filter(None, firsts[1:]), None)
    return study.lines.index(first) if first else 0, study.lines.index(rival) if rival else 0


def embedded_rows(lines: Sequence[SummaryRow]) -> dict[str, Any]:
    """What the page's script compares; draws are whole numbers of their last digit."""
    rows = [
        {
            "label": line.label,
            "metric": line.metric,
            "score": line.scores[HEADLINE[line.kind]].mean,
            "draws": np.rint(line.draws * 10**DIGITS).astype(int).tolist(),
        }
        for line in lines
    ]
    return {"unit": 10**DIGITS, "rows": rows}


def class_names(study: Study, use: Use) -> Sequence[str]:
    """Of the labels, or of the maps."""
    cell = study.cells[0].cell
    return cell.map_classes if use[0] == "segment" else cell.classes


def per_class(study: Study) -> Iterator[tuple[str, dict[str, SummaryRow], list[str]]]:
    """Title, lines by variant and classes of each table that has scores of classes."""
    for use in study.largest_uses:
        lines = {name: line for name in study.variants if (line := study.line(name, use)) is not None}
        names = [name for name in class_names(study, use) if any(name in line.per_class for line in lines.values())]
        if names:
            yield use_title(use), lines, names


def absent_classes(study: Study) -> list[str]:
    """Classes without a score."""
    scored = {name for line in study.lines for name in line.per_class}
    return [name for name in study.cells[0].cell.classes if name not in scored]


def confusion_rows(study: Study, found: Confusion) -> list[tuple[str, list[int], list[float | None]]]:
    """A class, its counts, and shares: of each predicted class, or recall and precision."""
    names, counts = class_names(study, found.use), found.counts
    if counts.ndim == 2:
        shares = (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)).tolist()
        return list(zip(names, counts.tolist(), shares, strict=True))
    rows = []
    for name, ((absent, false), (missed, right)) in zip(names, counts.tolist(), strict=True):
        shares = [right / total if total else None for total in (right + missed, right + false)]
        rows.append((name, [right, missed, false, absent], shares))
    return rows


def by_part(study: Study, field: Literal["reconstruction", "retrieval"]) -> list[tuple[str, str, dict[str, Spread]]]:
    """Variant, part (modality, direction) and means over seeds of every number in a field of the variant's cells."""
    rows = []
    for variant in study.variants:
        tables = [getattr(found.cell, field) for found in study.of(variant)]
        for part in dict.fromkeys(name for table in tables for name in table):
            rows.append((variant, part, spreads([table[part] for table in tables if part in table])))
    return rows


def against_fills(errors: Mapping[str, Spread]) -> str:
    """Which ways to fill removed patches have larger errors than the model, and which have not."""
    model = errors["model"].mean
    beaten = [name for name in FILLS if name in errors and model < errors[name].mean]
    lost = [name for name in FILLS if name in errors and name not in beaten]
    parts = [f"below {' and '.join(beaten)}"] if beaten else []
    return "; ".join([*parts, *([f"not below {' or '.join(lost)}"] if lost else [])])


# A marker and the same in the key: colour alone does not tell lines apart for everybody.
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
GLYPHS = ("●", "■", "▲", "◆", "▼", "✚", "✖", "★")
_TEXT, _GRID = "#010203", "#010204"
_SIZE_INCHES = (3.9, 2.6)


@dataclass(frozen=True)
class Chart:
    """What the page draws as one SVG element.

    `label` describes it for readers who can't see it; `drawing` is its markup, in which matplotlib has escaped texts.
    """

    title: str
    label: str
    view_box: str
    drawing: str


def label_efficiency(study: Study) -> list[Chart]:
    """The headline score over the share of labels, one chart per protocol with several shares."""
    charts: list[Chart] = []
    for protocol, _ in study.largest_uses:
        uses = [use for use in study.uses if use[0] == protocol]
        if len(uses) < 2:
            continue
        with _drawn(charts, protocol, "labels", metric(study, uses[0])) as axis:
            for at, variant in enumerate(study.variants):
                lines = [line for use in uses if (line := study.line(variant, use)) is not None]
                shares, colour = [line.share for line in lines], _colour(at)
                low, high = [line.low for line in lines], [line.high for line in lines]
                axis.fill_between(shares, low, high, color=colour, alpha=0.13, lw=0)
                means = [line.headline.mean for line in lines]
                axis.plot(shares, means, color=colour, marker=_MARKERS[at % len(_MARKERS)], ms=4, lw=1.6)
            axis.set_xscale("log")
            axis.set_xticks([share for _, share in uses], [percent(share) for _, share in uses])
            axis.minorticks_off()
    return charts


def training(study: Study) -> list[Chart]:
    """Training curves: one chart per name, one line per cell."""
    charts: list[Chart] = []
    for name in dict.fromkeys(name for found in study.cells for name in found.cell.history):
        with _drawn(charts, name, "epoch", "") as axis:
            for found in study.cells:
                if points := found.cell.history.get(name, ()):
                    colour = _colour(study.variants.index(found.cell.variant))
                    axis.plot(*zip(*points, strict=True), color=colour, lw=1.2, alpha=0.75)
    return charts


def precision_recall(study: Study, curves: Sequence[MicroCurve]) -> list[Chart]:
    """Micro-averaged precision over recall, one chart per protocol and share."""
    charts: list[Chart] = []
    for use in dict.fromkeys(curve.use for curve in curves):
        with _drawn(charts, use_title(use), "recall", "precision") as axis:
            for curve in curves:
                if curve.use == use:
                    colour = _colour(study.variants.index(curve.variant))
                    axis.step(curve.recall, curve.precision, where="post", color=colour, lw=1.3)
            axis.set(xlim=(0, 1), ylim=(0, 1.02))
    return charts


def predicted_values(study: Study, scatters: Sequence[ValueScatter]) -> list[Chart]:
    """Predicted values over true ones, one chart per protocol."""
    charts: list[Chart] = []
    value = study.cells[0].cell.value
    for scatter in scatters:
        with _drawn(charts, use_title(scatter.use), f"true {value}", f"predicted {value}") as axis:
            both = np.concatenate([scatter.true, scatter.predicted])
            axis.plot([both.min(), both.max()], [both.min(), both.max()], color=_GRID, lw=1)
            style = {"ls": "", "marker": _MARKERS[0], "ms": 4, "mew": 0, "alpha": 0.6}
            axis.plot(scatter.true, scatter.predicted, color=_colour(0), **style)
    return charts


def _colour(at: int) -> str:
    # Stands for the page's variable --line-0 and so on until the SVG is written.
    return f"#0101{16 + at % len(_MARKERS):02x}"


@contextmanager
def _drawn(charts: list[Chart], title: str, x_label: str, y_label: str) -> Iterator[Any]:
    """Yield the axis of a new chart on transparent ground, which is added to `charts` when all is drawn on it."""
    # Text stays text, in the page's font; equal input gives equal bytes.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": title, "font.size": 9}):
        figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
        axis = figure.subplots()
        yield axis
        axis.set_xlabel(x_label, color=_TEXT)
        axis.set_ylabel(y_label, color=_TEXT)
        axis.tick_params(colors=_TEXT, color=_GRID)
        axis.grid(color=_GRID, lw=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[:].set_color(_GRID)
        buffer = io.StringIO()
        # The metadata would name servers.
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    label = f"{title}: {y_label} over {x_label}" if y_label else f"{title} over {x_label}"
    charts.append(Chart(title, label, *_coloured_by_the_page(buffer.getvalue())))


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
