"""Results of checks of the stack, and how all checks run without waiting for one server after the other."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from fusmae.runs.mlflow_address import without_secrets

Status = Literal["ok", "warning", "error", "skipped"]


@dataclass(frozen=True)
class Finding:
    """One result of a check.

    Attributes:
        name: name of the thing that was checked.
        status: `error` for what prevents work now, `warning` for what may later, `skipped` for what is not needed here.
        found: description of what is there.
        expected: description of what would be right; "" where nothing is wrong.
        mend: command that corrects it; "" where nothing is wrong.
    """

    name: str
    status: Status
    found: str
    expected: str = ""
    mend: str = ""


def judged(is_well: bool, name: str, fault: Status, found: str, expected: str, mend: str) -> Finding:
    """A finding that is `ok`, or has the status `fault`, what would be right and the command that corrects it."""
    return Finding(name, "ok", found) if is_well else Finding(name, fault, found, expected, mend)


@dataclass(frozen=True)
class DoctorCheck:
    """A check of one part of the stack.

    Attributes:
        name: name of the part.
        ask: function that returns the findings and changes nothing.
        is_remote: whether it waits for another machine.
    """

    name: str
    ask: Callable[[], Iterable[Finding]]
    is_remote: bool = False


def ask_all(checks: Sequence[DoctorCheck], patience_s: float) -> list[Finding]:
    """Run every check; an exception in one becomes a finding and does not stop the others.

    Args:
        checks: checks, in the order of the findings.
        patience_s: longest time in seconds for all checks that wait for other machines together.
    """
    answers: dict[str, list[Finding]] = {}

    def answer(check: DoctorCheck) -> None:
        try:
            found = list(check.ask())
        except Exception as error:
            # A check catches the exceptions that it expects; any other one, mostly from a broken package, is a finding.
            mend = "correct the other faults here, then run fusmae doctor again"
            found = [Finding(check.name, "error", described(error), "a check that can be made", mend)]
        answers[check.name] = [
            replace(
                finding, **{part: without_secrets(getattr(finding, part)) for part in ("found", "expected", "mend")}
            )
            for finding in found
        ]

    for check in checks:
        if not check.is_remote:
            answer(check)
    # Daemon threads: a server that never answers must not keep the command from ending.
    threads = [threading.Thread(target=answer, args=(check,), daemon=True) for check in checks if check.is_remote]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + patience_s
    for thread in threads:
        thread.join(max(0, deadline - time.monotonic()))
    late = ("error", f"no answer within {patience_s:g} s", "an answer", "check that it runs and can be reached")
    return [finding for check in checks for finding in answers.get(check.name, [Finding(check.name, *late)])]


def described(error: BaseException) -> str:
    """An exception in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
