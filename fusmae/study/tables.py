"""The study's numbers as JSON for `dvc metrics`, CSV for `dvc plots`, and markdown for terminals."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fusmae.study.comparisons import Question
from fusmae.study.curves import MicroCurve
from fusmae.study.summary import Spread, Study, SummaryRow, drawn_places, percent


def as_metrics(study: Study, questions: Sequence[Question], warnings: Sequence[str]) -> dict[str, Any]:
    """Headline scores and answers as nested JSON.

    `warnings` must stand above every number, for example that data is synthetic.
    """
    scores: dict[str, Any] = {}
    for line in _own(study):
        of_protocol = scores.setdefault(line.variant, {}).setdefault(line.protocol, {})
        of_protocol[percent(line.share)] = {
            "metric": line.metric,
            "score": line.headline.mean,
            "std": line.headline.std,
            "low": line.low,
            "high": line.high,
            "seeds": len(line.seeds),
        }
    answers: dict[str, Any] = {}
    for question in questions:
        for (protocol, share), found in question.answers.items():
            answers.setdefault(question.key, {}).setdefault(protocol, {})[percent(share)] = {
                "against": found.other.variant,
                "answer": found.answer,
                "difference": found.difference,
                "low": found.low,
                "high": found.high,
            }
    return {"warning": " ".join(warnings), "reference": study.reference, "scores": scores, "verdict": answers}


def as_markdown(study: Study, questions: Sequence[Question], warnings: Sequence[str]) -> str:
    """The answers and every row as markdown, for a terminal or a code host."""
    lines = [f"**{warning}**\n" for warning in warnings]
    lines += [
        "| question | protocol | labels | against | answer | difference | 95 % |",
        "|---|---|---|---|---|---|---|",
    ]
    for question in questions:
        for (protocol, share), found in question.answers.items():
            cells = [question.text, protocol, percent(share), found.other.variant, found.answer]
            cells += [f"{found.difference:+.3f}", f"{found.low:+.3f} to {found.high:+.3f}"]
            lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "| variant | protocol | labels | given | score | mean ± std | 95 % | seeds |", "|" + "---|" * 8]
    for line in study.lines:
        cells = [line.variant, line.protocol, percent(line.share), line.condition, line.metric]
        cells += [with_deviation(line.headline), f"{line.low:.3f} to {line.high:.3f}", str(len(line.seeds))]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        f"95 %: percentile bootstrap over {drawn_places(study.cells)} and seeds, pairs of one place or one acquisition "
        "drawn together; differences are paired.",
    ]
    return "\n".join(lines) + "\n"


def write_plots(folder: Path, study: Study, curves: Sequence[MicroCurve]) -> None:
    """Write the CSV files, each with a header, into `folder`, which is made here."""
    folder.mkdir()
    own, use = list(_own(study)), ("variant", "protocol", "share")
    tables: dict[str, tuple[tuple[str, ...], Iterable[Sequence[object]]]] = {
        "label_efficiency": (
            (*use, "score", "low", "high"),
            ((line.variant, *line.use, line.headline.mean, line.low, line.high) for line in own),
        ),
        "scores": (
            (*use, "condition", "score", "mean", "std", "seeds"),
            (
                (line.variant, *line.use, line.condition, name, found.mean, found.std, len(line.seeds))
                for line in study.lines
                for name, found in line.scores.items()
            ),
        ),
        "per_class": (
            (*use, "class", "score"),
            ((line.variant, *line.use, name, score) for line in own for name, score in line.per_class.items()),
        ),
        "training": (
            ("variant", "seed", "epoch", "name", "value"),
            (
                (found.cell.variant, found.cell.seed, epoch, name, value)
                for found in study.cells
                for name, points in found.cell.history.items()
                for epoch, value in points
            ),
        ),
        "precision_recall": (
            (*use, "recall", "precision"),
            (
                (curve.variant, *curve.use, *point)
                for curve in curves
                for point in zip(curve.recall, curve.precision, strict=True)
            ),
        ),
    }
    for name, (head, rows) in tables.items():
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([head, *rows])


def with_deviation(found: Spread, digits: int = 3) -> str:
    """Mean and deviation as text, such as `0.712 ± 0.004`."""
    deviation = "" if found.std is None else f" ± {found.std:.{digits}f}"
    return f"{found.mean:.{digits}f}{deviation}"


def _own(study: Study) -> Iterable[SummaryRow]:
    """The lines of the main table: each variant with all modalities that it can take."""
    return (line for line in study.lines if line.condition == study.own_condition(line.variant))
