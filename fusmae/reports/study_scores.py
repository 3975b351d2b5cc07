"""The page's parts about scores: the verdict, the main table, conditions, comparison of any two rows."""

import json
from collections.abc import Sequence
from html import escape

import numpy as np

from fusmae.reports.study_tables import Column, details, deviating, linked, number, row, scored, signed, sortable, text
from fusmae.study.comparisons import ANSWERS, Answer, Comparison, Question
from fusmae.study.results import HEADLINE
from fusmae.study.summary import BOTH, DIGITS, Line, Study, Use, percent, score_name, spread

_COLOURS: dict[Answer, str] = {"yes": "passed", "no difference shown": "skipped", "worse": "blocks"}


def verdict_section(study: Study, questions: Sequence[Question]) -> str:
    """Every question with its answers, a row a protocol, a column a share."""
    if not questions:
        return f"<p>The study has no variant that {escape(study.reference)} could be asked to beat.</p>"
    total = sum(len(question.answers) for question in questions)
    note = (
        f'<p class="quiet">Mean of {escape(study.reference)} minus the mean of the other, with a 95 % interval of '
        "paired draws of test places and seeds. An interval with zero in it shows no difference, which is no proof "
        f"that there is none. Of {total} intervals, about one in twenty misses the true value by chance.</p>"
    )
    return "".join(_question(study, question) for question in questions) + note


def _question(study: Study, question: Question) -> str:
    shares = sorted({share for _, share in question.answers})
    total = len(question.answers)
    counted = "".join(
        f'<li><span class="status {_COLOURS[answer]}">{answer}</span> '
        f"in {len(uses)} of {total}: {escape(_listed(uses))}</li>"
        for answer in ANSWERS
        if (uses := question.where(answer))
    )
    heads = "".join(f'<th scope="col">{percent(share)} of labels</th>' for share in shares)
    rows = [
        row(escape(protocol), (_answer(study, share, question.answers.get((protocol, share))) for share in shares))
        for protocol in dict.fromkeys(protocol for protocol, _ in question.answers)
    ]
    return (
        f'<h3>{escape(question.text)}</h3><ul class="counts">{counted}</ul>'
        f'<div class="card" tabindex="0" role="region" aria-label="{escape(question.text)}"><table class="answers">'
        f'<thead><tr><th scope="col">protocol</th>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def _listed(uses: Sequence[Use]) -> str:
    """`probe 1 %, 10 %; finetune 10 %`."""
    protocols = dict.fromkeys(protocol for protocol, _ in uses)
    of_protocol = {name: [percent(share) for protocol, share in uses if protocol == name] for name in protocols}
    return "; ".join(f"{name} {', '.join(shares)}" for name, shares in of_protocol.items())


def _answer(study: Study, share: float, found: Comparison | None) -> str:
    label = f' data-share="{percent(share)} of labels:"'
    if found is None:
        return f'<td class="quiet"{label}>not measured</td>'
    by = {
        "yes": f"yes, by {found.difference:.3f}",
        "worse": f"worse, by {-found.difference:.3f}",
        "no difference shown": f"no difference shown, {signed(found.difference)}",
    }[found.answer]
    return (
        f'<td{label}><span class="status {_COLOURS[found.answer]}">{by}</span><span class="quiet">'
        f"[{signed(found.low)}, {signed(found.high)}] against {linked(study, found.other.variant)}</span></td>"
    )


def scores_section(study: Study) -> str:
    """The main table: a row a variant, given all that it can take; its cost beside it."""
    columns = [Column("variant", is_number=False)]
    columns += [
        Column(percent(share), group=f"{protocol}, {_metric(study, (protocol, share))}")
        for protocol, share in study.uses
    ]
    columns += [Column(name, group="cost") for name, _, _ in _COSTS]
    rows = [
        row(_named(study, variant), [*(scored(study.line(variant, use)) for use in study.uses), *_cost(study, variant)])
        for variant in study.variants
    ]
    caption = "Scores of every variant by protocol and share of labels"
    note = (
        '<p class="quiet">Mean ± standard deviation over seeds; below it the 95 % interval over test places and seeds. '
        "Both modalities are given to variants that take both.</p>"
    )
    return note + sortable(columns, rows, caption) + details("Every row and every score", _all_scores(study))


_COSTS = (
    ("parameters", "parameters", "{:,.0f}"),
    ("pretraining, s", "pretrain_seconds", "{:,.0f}"),
    ("pairs/s", "pairs_per_second", "{:,.1f}"),
)


def _cost(study: Study, variant: str) -> list[str]:
    cells = []
    for _, name, shown in _COSTS:
        values = [found.cell.cost[name] for found in study.of(variant) if name in found.cell.cost]
        mean = spread(values).mean if values else None
        cells.append(number(mean, None if mean is None else shown.format(mean)))
    return cells


def _named(study: Study, variant: str) -> str:
    own = study.own_condition(variant)
    given = "" if own == BOTH else f" (given {own})"
    return f'{linked(study, variant)}<span class="quiet">{escape(study.of(variant)[0].cell.about + given)}</span>'


def _metric(study: Study, use: Use) -> str:
    return next(line.metric for line in study.lines if (line.protocol, line.share) == use)


def _all_scores(study: Study) -> str:
    names = list(dict.fromkeys(name for line in study.lines for name in line.scores))
    columns = [Column(name, is_number=False) for name in ("variant", "protocol")]
    columns += [Column("labels"), Column("given", is_number=False), *(Column(score_name(name)) for name in names)]
    rows = (
        row(
            linked(study, line.variant),
            [
                text(line.protocol),
                number(line.share, percent(line.share)),
                text(line.condition),
                *(deviating(line.scores.get(name)) for name in names),
            ],
        )
        for line in study.lines
    )
    return sortable(columns, rows, "Every row and every score")


def conditions_section(study: Study) -> str:
    """A table a protocol and share: variants by what they were given."""
    parts: list[str] = []
    for use in study.uses:
        given = [name for name in study.conditions if any(study.line(variant, use, name) for variant in study.variants)]
        if len(given) < 2:
            continue
        rows = [
            row(linked(study, variant), [scored(study.line(variant, use, condition)) for condition in given])
            for variant in study.variants
            if any(study.line(variant, use, condition) for condition in given)
        ]
        title = f"{use[0]}, {percent(use[1])} of labels ({_metric(study, use)})"
        table = sortable([Column("variant", is_number=False), *map(Column, given)], rows, title)
        parts.append(details(title, table, is_open=not parts))
    return "".join(parts) or "<p>No row was measured under another condition.</p>"


def compare_section(study: Study) -> str:
    """Two lists of all rows; the page's script works their difference out."""
    first = study.lines.index(line) if (line := _first_use(study, study.reference)) else 0
    rival = next((line for name in study.variants[1:] if (line := _first_use(study, name))), None)
    second = study.lines.index(rival) if rival else 0
    chosen = (("A", "row-a", first), ("B", "row-b", second))
    lists = (f'<label>Row {name} <select id="{key}">{_options(study, at)}</select></label>' for name, key, at in chosen)
    return (
        f'<div class="card compare">{"".join(lists)}'
        '<output id="difference" for="row-a row-b" aria-live="polite">The comparison needs JavaScript.</output></div>'
        '<p class="quiet">Worked out in the page from each row’s bootstrap draws: the same resamples of test places '
        "and seeds for both, so that the difference is a paired one.</p>"
        f'<script type="application/json" id="rows">{_embedded(study.lines)}</script>'
    )


def _first_use(study: Study, variant: str) -> Line | None:
    return next((line for use in study.uses if (line := study.line(variant, use)) is not None), None)


def _options(study: Study, chosen: int) -> str:
    groups = []
    for variant in study.variants:
        options = (
            f'<option value="{at}"{" selected" if at == chosen else ""}>{escape(line.label)}</option>'
            for at, line in enumerate(study.lines)
            if line.variant == variant
        )
        groups.append(f'<optgroup label="{escape(variant)}">{"".join(options)}</optgroup>')
    return "".join(groups)


def _embedded(lines: Sequence[Line]) -> str:
    """Rows as JSON that can't end the script element; draws as whole numbers of their last digit."""
    rows = [
        {
            "label": line.label,
            "metric": line.metric,
            "score": line.scores[HEADLINE[line.kind]].mean,
            "draws": np.rint(line.draws * 10**DIGITS).astype(int).tolist(),
        }
        for line in lines
    ]
    return json.dumps({"unit": 10**DIGITS, "rows": rows}, separators=(",", ":")).replace("<", "\\u003c")
