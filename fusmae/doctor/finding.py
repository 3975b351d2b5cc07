"""Results of checks of the stack, and how all checks run without waiting for one server after the other."""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

from fusmae.runs.mlflow_address import without_secrets

Status = Literal["ok", "warning", "error", "skipped"]

_FIRST = "correct the other faults here, then run fusmae doctor again"


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

    def to_json(self) -> dict[str, str]:
        """The finding as plain JSON values."""
        return asdict(self)


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
    answers: dict[str, list[Finding]] = {check.name: _answer(check) for check in checks if not check.is_remote}
    waiting = [check for check in checks if check.is_remote]
    # Daemon threads: a server that never answers must not keep the command from ending.
    threads = [threading.Thread(target=_answer_into, args=(answers, check), daemon=True) for check in waiting]
    for thread in threads:
        thread.start()
    pause = threading.Event()
    for _ in range(int(patience_s / 0.05)):
        if not any(thread.is_alive() for thread in threads):
            break
        pause.wait(0.05)
    late = Finding(
        "", "error", f"no answer within {patience_s:g} s", "an answer", "check that it runs and can be reached"
    )
    return [finding for check in checks for finding in answers.get(check.name, [replace(late, name=check.name)])]


def _answer_into(answers: dict[str, list[Finding]], check: DoctorCheck) -> None:
    answers[check.name] = _answer(check)


def _answer(check: DoctorCheck) -> list[Finding]:
    try:
        found = list(check.ask())
    except Exception as error:
        # A check catches the exceptions that it expects; any other one, mostly from a broken package, is a finding too.
        found = [Finding(check.name, "error", described(error), "a check that can be made", _FIRST)]
    return [_shown(finding) for finding in found]


def _shown(finding: Finding) -> Finding:
    found, expected, mend = (without_secrets(text) for text in (finding.found, finding.expected, finding.mend))
    return replace(finding, found=found, expected=expected, mend=mend)


def described(error: BaseException) -> str:
    """An exception in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
