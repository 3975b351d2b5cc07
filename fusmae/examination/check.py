"""What a check of the examination looks at, what it asks, and its result."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from fusmae.config.task import Task
from fusmae.data.index import Pair
from fusmae.data.shards import LeftOut
from fusmae.errors import CHECK_OF_FAULT
from fusmae.examination.observe import Band, Observation
from fusmae.modalities import BandStatistics
from fusmae.sources.shared.source import Facts

Severity = Literal["blocks", "warns"]
Status = Literal["passed", "tolerated", "skipped", "warns", "blocks"]

UPDATE = "`fusmae update`"
"""Command in hints after raw files or tables were corrected: DVC doesn't watch them, so it would see no change."""

_MAX_EXAMPLES = 10


@dataclass(frozen=True)
class Dataset:
    """What checks look at."""

    pairs: Sequence[Pair]  # pairs of the index
    task: Task  # what the labels are; classes in the order of the label columns
    facts: Facts  # facts that the dataset states about itself
    observed: Observation  # observation of the shards; without pairs where only the index is examined
    left_out: Sequence[LeftOut] = ()  # pairs of the index that are in no shard
    map_classes: Sequence[str] = ()  # classes of the maps, in the order of their numbers

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; empty for values."""
        return self.task.classes

    def left_out_for(self, check: str) -> dict[str, list[str]]:
        """Keys of the pairs with a fault that belongs to a check, by the first one's problem; for `findings`."""
        items = [item for item in self.left_out if CHECK_OF_FAULT[item.fault] == check]
        problem = "".join(item.problem.partition("\n")[0] for item in items[:1])
        return {f"left out: {problem}": [item.key for item in items]} if items else {}

    def published(self, band: Band) -> BandStatistics | None:
        """The published statistics of a band; None where there are none."""
        return self.facts.statistics.get(band.modality, {}).get(band.name)


@dataclass(frozen=True)
class Result:
    """What one check found."""

    found: int  # number of findings, which are pairs unless `expected` states otherwise
    got: str  # description of what was found
    expected: str  # description of what would be right
    examples: tuple[str, ...] = ()  # keys of some findings
    hint: str = ""  # next step for the user where there are findings
    is_skipped: bool = False  # whether the data are insufficient for the check; `got` states why


@dataclass(frozen=True, kw_only=True)
class Check(Result):
    """A result, with what was checked."""

    name: str  # name of the check, and key of `data.tolerated`
    severity: Severity  # effect on training of more findings than are tolerated
    what: str  # one sentence that states what holds for sound data
    tolerated: int  # number of findings that are allowed

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


@dataclass(frozen=True)
class Question:
    """One check of a dataset."""

    name: str  # see `Check`, also for `severity` and `what`
    severity: Severity
    what: str
    answer: Callable[[Dataset], Result]  # function that finds out
    needs_shards: bool  # whether it looks at the shards, and not at the index alone

    def ask(self, data: Dataset, tolerated: int = 0) -> Check:
        """Check a dataset, in which some findings are tolerated."""
        result = vars(self.answer(data))
        return Check(**result, name=self.name, severity=self.severity, what=self.what, tolerated=tolerated)


def question(severity: Severity, *, needs_shards: bool = True) -> Callable[[Callable[[Dataset], Result]], Question]:
    """Make a function `check_<name>` the check `<name>`; its docstring's first paragraph states what holds."""

    def made(answer: Callable[[Dataset], Result]) -> Question:
        what = " ".join((answer.__doc__ or "").partition("\n\n")[0].split())
        return Question(answer.__name__.removeprefix("check_"), severity, what, answer, needs_shards)

    return made


def findings(
    kinds: Mapping[str, Iterable[str]], *, otherwise: str, expected: str, hint: str, remark: str = ""
) -> Result:
    """Return the result of a check whose findings are pairs.

    `kinds` has their keys by what is wrong with them, as the rest of a sentence that begins with their number;
    `otherwise` is what was found where none has anything wrong, `remark` what was seen besides and is no finding.
    """
    found = {kind: set(keys) for kind, keys in kinds.items()}
    sentences = [f"{counted(len(keys), 'pair')} {kind}" for kind, keys in found.items() if keys] or [otherwise]
    keys = set().union(*found.values())
    return Result(len(keys), "; ".join(filter(None, [*sentences, remark])), expected, some(keys), hint)


def some(names: Iterable[str]) -> tuple[str, ...]:
    """Return the first few names in alphabetical order, each once."""
    return tuple(sorted(set(names))[:_MAX_EXAMPLES])


def counted(number: int, singular: str, plural: str = "") -> str:
    """Return a number with its noun, such as `1 pair` or `1,200 pairs`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"
