"""The gate's verdict: a page for people, JSON for machines."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fusmae.evaluation.scorers import LABELS
from fusmae.files import write_json
from fusmae.release.promotion.gate import CLASS, GateCheck, Status, Verdict
from fusmae.reports.page import write_page

# The page's own colours: what fails must be seen first.
_COLOURS: dict[Status, str] = {"failed": "blocks", "skipped": "skipped", "passed": "passed"}
_WORDS: dict[Status, str] = {"failed": "failed", "skipped": "can’t tell", "passed": "passed"}
_FACTS = ("data", "test_set", "commit", "when", "thresholds")


def write_verdict(folder: Path, verdict: Verdict, warning: str = "") -> Path:
    """Write `verdict.json` and `verdict.html`, with a warning (as of synthetic data) above them; return the JSON file.

    Raises:
        StorageError: the disk is full.
    """
    write_json(folder / "verdict.json", verdict.to_json() | {"warning": warning})
    answered = [check for status in ("failed", "passed") for check in verdict.checks if check.status == status]
    models = verdict.facts["models"]
    write_page(
        folder / "verdict.html",
        "verdict.html",
        title=f"{verdict.challenger}: the gate’s verdict",
        verdict=verdict,
        warning=warning,
        colours=_COLOURS,
        words=_WORDS,
        failed=list(map(_reason, verdict.failed)),
        answered=answered,
        unanswered=[check for check in verdict.checks if check.status == "skipped"],
        why_unanswered=_why_unanswered(verdict.checks),
        columns=[("asked", ""), *(("number", model["model"]) for model in models)],
        rows=list(_side_by_side(models)),
        facts={name: _shown(verdict.facts[name]) for name in _FACTS},
    )
    return folder / "verdict.json"


def as_text(verdict: Verdict) -> str:
    """The verdict in a terminal: what failed, then how many passed."""
    counts = {status: sum(check.status == status for check in verdict.checks) for status in _WORDS}
    against = f"against {verdict.champion}" if verdict.champion else "no champion yet"
    lines = [f"gate: {verdict.challenger} {'passes' if verdict.is_passed else 'FAILS'} ({against})"]
    lines += [f"  {_reason(check)}" for check in verdict.failed]
    lines += ["  " + ", ".join(f"{counts[status]} {word}" for status, word in _WORDS.items())]
    return "\n".join([*lines, *(f"  can’t tell: {why}" for why in _why_unanswered(verdict.checks))])


def _reason(check: GateCheck) -> str:
    return f"{check.name}: {check.got}; asked for: {check.expected}"


def _why_unanswered(checks: Sequence[GateCheck]) -> list[str]:
    """Reasons of the questions without an answer, one for all that share it."""
    skipped = [check for check in checks if check.status == "skipped"]
    classes = [check for check in skipped if check.name.startswith(CLASS)]
    others = [check for check in skipped if check not in classes]
    names = {check.got: ", ".join(other.name for other in others if other.got == check.got) for check in others}
    found = [f"{of_reason}: {reason}" for reason, of_reason in names.items()]
    if classes:
        noun = "1 class has" if len(classes) == 1 else f"{len(classes)} classes have"
        found.append(f"{noun} too few test pairs; asked for: {classes[0].expected}")
    return found


def _side_by_side(models: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, list[float | None]]]:
    """A score's name and its value for challenger and champion, one score after the other."""
    for metric, by_row in models[0]["scores"].items():
        for row in by_row:
            yield f"{LABELS[metric]}, {row}", [model["scores"].get(metric, {}).get(row) for model in models]
    for name in models[0]["per_class"]:
        label = f"{models[0]['class_metric']}, {name}"
        yield label, [model["per_class"].get(name) for model in models]
    for label, key in (("calibration error", "calibration_error"), ("ms per pair", "latency_ms"), ("MB", "size_mb")):
        if models[0][key] is not None:
            yield label, [model[key] for model in models]


def _shown(value: object) -> str:
    return "; ".join(f"{key} {found}" for key, found in value.items()) if isinstance(value, Mapping) else str(value)
