"""The gate's verdict: a page for people, JSON for machines."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from fusmae.files import write_json, write_text
from fusmae.release.promotion.gate import CLASS, Check, Status, Verdict
from fusmae.reports.layout import page, table

# The page's own colours: what fails must be seen first.
_COLOURS: dict[Status, str] = {"failed": "blocks", "skipped": "skipped", "passed": "passed"}
_WORDS: dict[Status, str] = {"failed": "failed", "skipped": "can’t tell", "passed": "passed"}
_FACTS = ("data", "test_set", "commit", "when", "thresholds")


def write_verdict(folder: Path, verdict: Verdict, warning: str = "") -> Path:
    """Write `verdict.json` and `verdict.html`.

    Args:
        folder: where to.
        verdict: what the gate says.
        warning: what must stand above it, as of synthetic data.

    Returns:
        The JSON file.

    Raises:
        StorageError: the disk is full.
    """
    write_json(folder / "verdict.json", verdict.to_json() | {"warning": warning})
    write_text(folder / "verdict.html", _html(verdict, warning))
    return folder / "verdict.json"


def as_text(verdict: Verdict) -> str:
    """The verdict in a terminal: what failed, then how many passed."""
    counts = {status: sum(check.status == status for check in verdict.checks) for status in _WORDS}
    against = f"against {verdict.champion}" if verdict.champion else "no champion yet"
    lines = [f"gate: {verdict.challenger} {'passes' if verdict.is_passed else 'FAILS'} ({against})"]
    lines += [f"  {_reason(check)}" for check in verdict.failed]
    lines += ["  " + ", ".join(f"{counts[status]} {word}" for status, word in _WORDS.items())]
    return "\n".join([*lines, *(f"  can’t tell: {why}" for why in _why_unanswered(verdict.checks))])


def _reason(check: Check) -> str:
    return f"{check.name}: {check.got}; asked for: {check.expected}"


def _why_unanswered(checks: Sequence[Check]) -> list[str]:
    """Reasons of the questions without an answer, one for all that share it."""
    skipped = [check for check in checks if check.status == "skipped"]
    classes = [check for check in skipped if check.name.startswith(CLASS)]
    reasons: dict[str, list[str]] = {}
    for check in skipped:
        if check not in classes:
            reasons.setdefault(check.got, []).append(check.name)
    found = [f"{', '.join(names)}: {got}" for got, names in reasons.items()]
    if classes:
        noun = "1 class has" if len(classes) == 1 else f"{len(classes)} classes have"
        found.append(f"{noun} too few test pairs; asked for: {classes[0].expected}")
    return found


def _html(verdict: Verdict, warning: str) -> str:
    answer = "may become champion" if verdict.is_passed else "must not become champion"
    against = f"compared with {verdict.champion}" if verdict.champion else "there is no champion yet"
    synthetic = f'<p class="synthetic">{escape(warning)}</p>' if warning else ""
    order: list[Status] = ["failed", "passed"]
    answered = sorted(
        (check for check in verdict.checks if check.status in order), key=lambda check: order.index(check.status)
    )
    reasons = "".join(f"<li>{escape(_reason(check))}</li>" for check in verdict.failed)
    why = f"<ul>{reasons}</ul>" if reasons else f"<p>{len(answered)} questions have an answer, and all are passed.</p>"
    if unanswered := _why_unanswered(verdict.checks):
        why += f'<p class="quiet">Without an answer: {escape("; ".join(unanswered))}.</p>'
    places = f" of {verdict.difference.num_places} places" if verdict.difference else ""
    head = (
        f"<h1>{escape(verdict.challenger)}</h1>"
        f'<p class="quiet">The gate’s verdict; {escape(against)}, on '
        f"{verdict.facts['num_pairs']} test pairs{places}</p>"
        f"{synthetic}"
        f'<div class="card verdict {"passed" if verdict.is_passed else "blocks"}"><p><b>It {answer}.</b></p>{why}</div>'
    )
    sections = [
        head,
        "<h2>Questions</h2>",
        _questions(answered),
        _unanswered(verdict.checks),
        "<h2>Side by side</h2>",
        _trials(verdict),
        "<h2>What it rests on</h2>",
        table([("asked", "fact"), ("", "value")], [_fact(name, verdict.facts[name]) for name in _FACTS]),
    ]
    return page(f"{verdict.challenger}: the gate’s verdict", "\n".join(sections))


def _questions(checks: Sequence[Check]) -> str:
    return table([("", "answer"), ("asked", "question"), ("", "found"), ("", "asked for")], list(map(_row, checks)))


def _unanswered(checks: Sequence[Check]) -> str:
    """Questions without an answer, folded: the reasons say enough for most readers."""
    skipped = [check for check in checks if check.status == "skipped"]
    if not skipped:
        return ""
    noun = "1 question has" if len(skipped) == 1 else f"{len(skipped)} questions have"
    reasons = "".join(f"<li>{escape(why)}</li>" for why in _why_unanswered(checks))
    return (
        f"<details><summary>{noun} no answer, which neither passes nor fails</summary>"
        f"<ul>{reasons}</ul>{_questions(skipped)}</details>"
    )


def _trials(verdict: Verdict) -> str:
    """Challenger and champion, a column each."""
    trials = verdict.facts["trials"]
    rows = [
        *(
            (f"{metric}, {setting}", metric, setting)
            for metric in ("micro_ap", "macro_ap")
            for setting in trials[0][metric]
        ),
        *((f"AP, {name}", "per_class_ap", name) for name in trials[0]["per_class_ap"]),
    ]
    lines = [_numbers(label, [trial[group].get(key) for trial in trials]) for label, group, key in rows]
    for label, key in (("calibration error", "calibration_error"), ("ms a pair", "latency_ms"), ("MB", "size_mb")):
        lines.append(_numbers(label, [trial[key] for trial in trials]))
    return table([("asked", ""), *(("number", trial["model"]) for trial in trials)], lines)


def _numbers(label: str, values: Sequence[float | None]) -> str:
    cells = "".join(f'<td class="number">{"–" if value is None else f"{value:.3f}"}</td>' for value in values)
    return f"<tr><td>{escape(label)}</td>{cells}</tr>"


def _fact(name: str, value: object) -> str:
    shown = "; ".join(f"{key} {found}" for key, found in value.items()) if isinstance(value, Mapping) else str(value)
    return f"<tr><td>{escape(name)}</td><td><code>{escape(shown)}</code></td></tr>"


def _row(check: Check) -> str:
    return (
        f'<tr><td><span class="status {_COLOURS[check.status]}">{_WORDS[check.status]}</span></td>'
        f'<td><span class="name">{escape(check.name)}</span></td>'
        f"<td>{escape(check.got)}</td><td>{escape(check.expected)}</td></tr>"
    )
