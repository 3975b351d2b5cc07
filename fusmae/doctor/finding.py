"""Results of checks of the stack, and how all checks run without waiting for one server after the other."""

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fusmae.runs.mlflow_address import without_secrets

Status = Literal["ok", "warning", "error", "skipped"]


@dataclass(frozen=True)
class Finding:
    """One result of a check."""

    name: str  # name of the thing that was checked
    # `error` for what prevents work now, `warning` for what may later, `skipped` for what is not needed here.
    status: Status
    found: str  # description of what is there
    expected: str = ""  # description of what would be right; "" where nothing is wrong
    mend: str = ""  # command that corrects it; "" where nothing is wrong


Ask = Callable[[], Iterable[Finding]]
"""A check of one part of the stack: it returns the findings and changes nothing."""


def judged(is_well: bool, name: str, fault: Status, found: str, expected: str, mend: str) -> Finding:
    """A finding that is `ok`, or has the status `fault`, what would be right and the command that corrects it."""
    return Finding(name, "ok", found) if is_well else Finding(name, fault, found, expected, mend)


def ask_all(checks: Mapping[str, Ask], remote: Collection[str], patience_s: float) -> list[Finding]:
    """Run every check; an exception in one becomes a finding and does not stop the others.

    Args:
        checks: checks by the part of the stack that they look at, in the order of the findings.
        remote: names of those that wait for other machines.
        patience_s: longest time in seconds for all of these together.
    """
    answers: dict[str, list[Finding]] = {}

    def answer(name: str) -> None:
        try:
            found = list(checks[name]())
        except Exception as error:
            # A check catches the exceptions that it expects; any other one, mostly from a broken package, is a finding.
            mend = "correct the other faults here, then run fusmae doctor again"
            found = [Finding(name, "error", described(error), "a check that can be made", mend)]
        answers[name] = [_without_secrets(finding) for finding in found]

    for name in checks:
        if name not in remote:
            answer(name)
    # Daemon threads: a server that never answers must not keep the command from ending.
    threads = [threading.Thread(target=answer, args=(name,), daemon=True) for name in checks if name in remote]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + patience_s
    for thread in threads:
        thread.join(max(0, deadline - time.monotonic()))
    late = f"no answer within {patience_s:g} s", "an answer", "check that it runs and can be reached"
    return [finding for name in checks for finding in answers.get(name, [Finding(name, "error", *late)])]


def _without_secrets(finding: Finding) -> Finding:
    found, expected, mend = map(without_secrets, (finding.found, finding.expected, finding.mend))
    return Finding(finding.name, finding.status, found, expected, mend)


def described(error: BaseException) -> str:
    """An exception in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def listed(names: Sequence[str]) -> str:
    """The first four names, and the number of the others."""
    rest = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return f"{', '.join(names[:4])}{rest}"
