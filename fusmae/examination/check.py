"""What one check of the examination found."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from fusmae.data.shards import LeftOut
from fusmae.errors import CHECK_OF_FAULT

Severity = Literal["blocks", "warns"]
Status = Literal["passed", "tolerated", "skipped", "warns", "blocks"]

UPDATE = "`fusmae update`"
"""What a hint says of raw files and tables that were mended: DVC doesn't watch them, so that it would see no change."""

_MAX_EXAMPLES = 10


@dataclass(frozen=True)
class Check:
    """One question to a dataset, and the answer.

    Attributes:
        name: the key under which `data.tolerated` allows findings.
        severity: what findings beyond the tolerated do to training.
        what: what holds for sound data, in one sentence.
        found: number of findings; pairs, unless `got` says otherwise.
        got: what was found, in words.
        expected: what would have been right.
        examples: keys of some findings.
        hint: the next step where there are findings.
        tolerated: findings that are allowed.
        is_skipped: the data say too little to answer; `got` says why.
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
        """No more findings than are tolerated."""
        return self.found <= self.tolerated

    @property
    def blocks(self) -> bool:
        """Training must not start."""
        return self.severity == "blocks" and not self.passed

    @property
    def status(self) -> Status:
        """The answer in one word."""
        if not self.passed:
            return self.severity
        if self.found:
            return "tolerated"
        return "skipped" if self.is_skipped else "passed"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "examples": list(self.examples), "passed": self.passed, "status": self.status}


def some(names: Iterable[str]) -> tuple[str, ...]:
    """The first few names in their order, each once."""
    return tuple(sorted(set(names))[:_MAX_EXAMPLES])


def counted(number: int, singular: str, plural: str = "") -> str:
    """`1 pair`, `1,200 pairs`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def joined(sentences: Sequence[str], otherwise: str) -> str:
    """Findings as one text, or what is said where there are none."""
    return "; ".join(sentences) or otherwise


def keys_left_out(left_out: Iterable[LeftOut], check: str) -> list[str]:
    """Keys of the pairs that no shard holds for a fault that this check looks after."""
    return [item.key for item in left_out if CHECK_OF_FAULT[item.fault] == check]
