"""The page's parts about classes: scores of each, precision-recall curves, confusions."""

from collections.abc import Sequence
from html import escape

import numpy as np

from fusmae.reports import study_charts as charts
from fusmae.reports.study_tables import Column, details, number, origins, row, sortable
from fusmae.study.curves import Confusion, MicroCurve
from fusmae.study.summary import Study, Use, percent


def classes_section(study: Study, curves: Sequence[MicroCurve], counted: Sequence[Confusion]) -> str:
    """All three, where the cells hold what they need."""
    parts = [_per_class(study)]
    if curves:
        parts += [
            "<h3>Precision and recall</h3>",
            '<p class="quiet">Micro-averaged over the whole test set; each variant’s first seed.</p>',
            charts.key(study),
            charts.precision_recall(study, curves),
        ]
    if counted:
        seeds = ", ".join(map(str, dict.fromkeys(seed for found in counted for seed in found.seeds)))
        parts.append(f'<h3>Confusions of {escape(study.reference)}</h3><p class="quiet">Seeds added up: {seeds}.</p>')
        parts += [_confusion(study, found, is_open=at == 0) for at, found in enumerate(counted)]
    return "".join(parts)


def _names(study: Study, use: Use) -> Sequence[str]:
    cell = study.cells[0].cell
    protocol, _ = use
    return cell.map_classes if protocol == "segment" else cell.classes


def _per_class(study: Study) -> str:
    parts: list[str] = []
    for use in study.largest_uses:
        names = _names(study, use)
        lines = {name: line for name in study.variants if (line := study.line(name, use)) is not None}
        rows = [
            row(escape(name), (_bar(line.per_class.get(name), study.variants.index(of)) for of, line in lines.items()))
            for name in names
            if any(name in line.per_class for line in lines.values())
        ]
        if not rows:
            continue
        columns = [Column("class", is_number=False), *(Column(of, title=origins(study, of)) for of in lines)]
        title = _title(use)
        parts.append(details(title, sortable(columns, rows, f"Scores of each class: {title}"), is_open=not parts))
    names = study.cells[0].cell.classes
    absent = [name for name in names if not any(name in line.per_class for line in study.lines)]
    note = f'<p class="quiet">Classes that the test set lacks: {escape("; ".join(absent))}.</p>' if absent else ""
    return f'<p class="quiet">AP of each class, or its IoU; the mean over seeds.</p>{note}{"".join(parts)}'


def _bar(value: float | None, at: int) -> str:
    if value is None:
        return number(None)
    colour = f"var(--line-{at % charts.NUM_COLOURS})"
    bar = f'<span class="track"><span class="bar" style="width:{100 * value:.1f}%;background:{colour}"></span></span>'
    return number(value).removesuffix("</td>") + bar + "</td>"


def _confusion(study: Study, found: Confusion, *, is_open: bool) -> str:
    names = _names(study, found.use)
    body = _by_class(names, found) if found.counts.ndim == 3 else _matrix(names, found)
    return details(_title(found.use), body, is_open=is_open)


def _by_class(names: Sequence[str], found: Confusion) -> str:
    heads = ("right", "missed", "false alarms", "rightly absent", "recall", "precision")
    rows = []
    for name, ((absent, false), (missed, right)) in zip(names, found.counts.tolist(), strict=True):
        counts = [number(count, f"{count:,}") for count in (right, missed, false, absent)]
        shares = [number(right / total if total else None) for total in (right + missed, right + false)]
        rows.append(row(escape(name), [*counts, *shares]))
    columns = [Column("class", is_number=False), *map(Column, heads)]
    note = '<p class="quiet">A class counts as predicted from a probability of 0.5.</p>'
    return note + sortable(columns, rows, "Counts of right and wrong predictions of each class")


def _matrix(names: Sequence[str], found: Confusion) -> str:
    """A table: rows true, columns predicted, in percent of the row; columns by number, for names are long."""
    heads = "".join(f'<th scope="col" title="{escape(name)}">{at}</th>' for at, name in enumerate(names, 1))
    shares = found.counts / np.maximum(found.counts.sum(axis=1, keepdims=True), 1)
    rows = "".join(
        row(f"{at}&nbsp;&nbsp;{escape(name)}", map(_shade, shares[at - 1].tolist(), found.counts[at - 1].tolist()))
        for at, name in enumerate(names, 1)
    )
    return (
        '<p class="quiet">Rows are the true class, columns what was predicted, in percent of the row.</p>'
        '<div class="card" tabindex="0" role="region" aria-label="Confusion matrix"><table class="matrix"><thead><tr>'
        f'<th scope="col">true \\ predicted</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _shade(share: float, count: int) -> str:
    colour = f"color-mix(in srgb, var(--published) {70 * share:.0f}%, transparent)"
    return f'<td style="background:{colour}" title="{count:,}">{100 * share:.0f}</td>'


def _title(use: Use) -> str:
    return f"{use[0]}, {percent(use[1])} of labels"
