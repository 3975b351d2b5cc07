"""The result of one check of the examination."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from fusmae.data.shards import LeftOut
from fusmae.errors import CHECK_OF_FAULT

Severity = Literal["blocks", "warns"]
Status = Literal["passed", "tolerated", "skipped", "warns", "blocks"]

UPDATE = "`fusmae update`"
"""Command in hints after raw files or tables were corrected: DVC doesn't watch them, so it would see no change."""

_MAX_EXAMPLES = 10


@dataclass(frozen=True)
class Check:
    """One check of a dataset, and its result.

    Attributes:
        name: name of the check, and key under which `data.tolerated` allows findings.
        severity: effect on training of more findings than are tolerated.
        what: one sentence that states what holds for sound data.
        found: number of findings, which are pairs unless `expected` states otherwise.
        got: description of what was found.
        expected: description of what would be right.
        examples: keys of some findings.
        hint: next step for the user where there are findings.
        tolerated: number of findings that are allowed.
        is_skipped: whether the data are insufficient for the check; `got` states why.
    """

    name: str
    severity: Severity
    what: str
    found: int
    got: str
    expected: str
    examples: tuple[str, ...] = ()
    hint: str = ""
    tolerated: int = 0
    is_skipped: bool = False

    @property
    def passed(self) -> bool:
        """Whether there are no more findings than are tolerated."""
        return self.found <= self.tolerated

    @property
    def blocks(self) -> bool:
        """Whether training must not start."""
        return self.severity == "blocks" and not self.passed

    @property
    def status(self) -> Status:
        """The result in one word."""
        if not self.passed:
            return self.severity
        if self.found:
            return "tolerated"
        return "skipped" if self.is_skipped else "passed"

    def to_json(self) -> dict[str, Any]:
        """Return the check as plain JSON values."""
        return {**asdict(self), "examples": list(self.examples), "passed": self.passed, "status": self.status}


def some(names: Iterable[str]) -> tuple[str, ...]:
    """Return the first few names in alphabetical order, each once."""
    return tuple(sorted(set(names))[:_MAX_EXAMPLES])


def counted(number: int, singular: str, plural: str = "") -> str:
    """Return a number with its noun, such as `1 pair` or `1,200 pairs`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def joined(sentences: Sequence[str], otherwise: str) -> str:
    """Join findings to one text, or return `otherwise` where there are none."""
    return "; ".join(sentences) or otherwise


def keys_left_out(left_out: Iterable[LeftOut], check: str) -> list[str]:
    """Return the keys of the pairs that were left out of the shards because of a fault that belongs to this check."""
    return [item.key for item in left_out if CHECK_OF_FAULT[item.fault] == check]
