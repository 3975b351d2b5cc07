"""Rows of the study page's tables, as plain values."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from fusmae.study.curves import Confusion
from fusmae.study.results import HEADLINE, Cell
from fusmae.study.summary import DIGITS, Spread, Study, SummaryRow, Use, percent, spread, spreads

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


def use_title(use: Use) -> str:
    """`probe, 10 % of labels`."""
    return f"{use[0]}, {percent(use[1])} of labels"


def listed(uses: Sequence[Use]) -> str:
    """`probe 1 %, 10 %; finetune 10 %`."""
    of_protocol = groupby(uses, key=lambda use: use[0])
    return "; ".join(f"{name} {', '.join(percent(share) for _, share in found)}" for name, found in of_protocol)


def signed(value: float) -> str:
    """`+0.031`, with a minus as long as the plus."""
    return f"{value:+.3f}".replace("-", "−")


def anchor(cell: Cell) -> str:
    """Where a cell stands in the page's last table."""
    return f"cell-{cell.variant}-{cell.seed}".replace(" ", "-")


def origins(study: Study, variant: str) -> str:
    """Run, commit and data of a variant's cells, a line each."""
    known = ((found.cell.seed, found.cell.origin) for found in study.of(variant))
    return "\n".join(
        f"seed {seed}: run {of.get('run')}, commit {of.get('commit')}, data {of.get('data')}" for seed, of in known
    )


def metric(study: Study, use: Use) -> str:
    """The headline score's name, for people."""
    return next(line.metric for line in study.lines if (line.protocol, line.share) == use)


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
        measured = [(variant, name) for name in study.conditions for variant in study.variants]
        measured = [(variant, name) for variant, name in measured if study.line(variant, use, name)]
        given = list(dict.fromkeys(name for _, name in measured))
        if len(given) > 1:
            known = {variant for variant, _ in measured}
            title = f"{use_title(use)} ({metric(study, use)})"
            yield title, use, given, [variant for variant in study.variants if variant in known]


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


def reconstructions(study: Study) -> Iterator[tuple[str, str, dict[str, Spread], str]]:
    """Variant, modality, errors, and these in words."""
    for variant in study.variants:
        tables = [found.cell.reconstruction for found in study.of(variant)]
        for modality in dict.fromkeys(name for table in tables for name in table):
            errors = spreads([table[modality] for table in tables if modality in table])
            yield variant, modality, errors, _against_fills(errors)


def _against_fills(errors: Mapping[str, Spread]) -> str:
    model = errors["model"].mean
    beaten = [name for name in FILLS if name in errors and model < errors[name].mean]
    lost = [name for name in FILLS if name in errors and name not in beaten]
    parts = [f"below {' and '.join(beaten)}"] if beaten else []
    return "; ".join([*parts, *([f"not below {' or '.join(lost)}"] if lost else [])])


def retrievals(study: Study) -> Iterator[tuple[str, str, dict[str, Spread]]]:
    """Variant, direction, shares found."""
    for variant in study.variants:
        tables = [found.cell.retrieval for found in study.of(variant)]
        for direction in dict.fromkeys(name for table in tables for name in table):
            yield variant, direction, spreads([table[direction] for table in tables if direction in table])
