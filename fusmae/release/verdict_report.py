"""The gate's verdict: a page for people, JSON for machines."""

from html import escape
from pathlib import Path

from fusmae.files import write_json, write_text
from fusmae.page import page, table
from fusmae.release.gate import Check, Status, Verdict

# The page's own colours: what fails must be seen first.
_COLOURS: dict[Status, str] = {"failed": "blocks", "skipped": "skipped", "passed": "passed"}
_WORDS: dict[Status, str] = {"failed": "failed", "skipped": "can’t tell", "passed": "passed"}


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
    lines += [f"  {check.name}: {check.got}; asked for: {check.expected}" for check in verdict.failed]
    return "\n".join([*lines, "  " + ", ".join(f"{counts[status]} {word}" for status, word in _WORDS.items())])


def _html(verdict: Verdict, warning: str) -> str:
    answer = "may become champion" if verdict.is_passed else "must not become champion"
    against = f"compared with {verdict.champion}" if verdict.champion else "there is no champion yet"
    synthetic = f'<p class="synthetic">{escape(warning)}</p>' if warning else ""
    head = (
        f"<h1>{escape(verdict.challenger)}</h1>"
        f'<p class="quiet">The gate’s verdict; {escape(against)}, on {verdict.facts["num_pairs"]} test pairs</p>'
        f"{synthetic}"
        f'<div class="card verdict {"passed" if verdict.is_passed else "blocks"}"><p><b>It {answer}.</b></p></div>'
    )
    order: list[Status] = ["failed", "skipped", "passed"]
    rows = [_row(check) for check in sorted(verdict.checks, key=lambda check: order.index(check.status))]
    facts = [
        f"<tr><td>{escape(name)}</td><td><code>{escape(str(value))}</code></td></tr>"
        for name, value in verdict.facts.items()
    ]
    sections = [
        head,
        "<h2>Questions</h2>",
        table([("", "answer"), ("asked", "question"), ("", "found"), ("", "asked for")], rows),
        "<h2>What it rests on</h2>",
        table([("asked", "fact"), ("", "value")], facts),
    ]
    return page(f"{verdict.challenger}: the gate’s verdict", "\n".join(sections))


def _row(check: Check) -> str:
    return (
        f'<tr><td><span class="status {_COLOURS[check.status]}">{_WORDS[check.status]}</span></td>'
        f'<td><span class="name">{escape(check.name)}</span></td>'
        f"<td>{escape(check.got)}</td><td>{escape(check.expected)}</td></tr>"
    )
