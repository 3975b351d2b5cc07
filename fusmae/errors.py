"""The error tree: every mistake a user can make, by what is at fault.

FusmaeError
├── ConfigError        params.yaml: an unknown key, a wrong type, values that don't fit together
├── SourceError        raw data: cannot be had, or is not what its source says it is
├── PairError          one pair: a missing side or band, pixels that can't be used
├── ExaminationError   data that training must not see
├── ClusterError       the Dask cluster
├── ShardError         shards: a wrong checksum, an empty split, another format
├── CheckpointError    weights: another model, a damaged or foreign file
├── TrainingError      a run that cannot go on (non-finite loss)
├── ExportError        an ONNX graph that differs from the model it came from
├── InputError         arrays that a model can't be run on
├── RegistryError      the MLflow registry or its database
├── PromotionError     a version that must not become champion, or a checkout that must not decide it
├── LineageError       what made a version is not known, not to be had, or does not make it again
├── LedgerError        the ledger of champions: changed, or somebody else writes
├── CheckoutError      a second checkout of the project cannot be made
├── StudyError         a study's cells: absent, damaged or not comparable
└── StorageError       the disk is full, or a file cannot be written

Each message says what is wrong, where, what was got, what was expected and what to run next.
"""

from typing import Any, Literal


class FusmaeError(Exception):
    """A mistake that the user can mend; the command line prints its text without a traceback.

    Args:
        problem: what is wrong and where, in one sentence.
        got: what was found.
        expected: what would have been right.
        hint: the next command or step.
    """

    def __init__(self, problem: str, *, got: object = None, expected: object = None, hint: str = "") -> None:
        lines = [problem]
        if got is not None:
            lines.append(f"  got:      {got}")
        if expected is not None:
            lines.append(f"  expected: {expected}")
        if hint:
            lines.append(f"  next:     {hint}")
        super().__init__("\n".join(lines))


class ConfigError(FusmaeError):
    """params.yaml is wrong."""


class SourceError(FusmaeError):
    """Raw data cannot be had, or is not what its source says it is."""


Fault = Literal["incomplete", "unreadable", "georeference", "grid", "nodata", "units", "labels"]
"""What can be wrong with a pair; the examination has a check for each."""


class PairError(FusmaeError):
    """One pair lacks a side or a band, or its pixels can't be used.

    Args:
        fault: which kind of fault it is.
        problem: see `FusmaeError`, as are the rest.
    """

    def __init__(
        self, fault: Fault, problem: str, *, got: object = None, expected: object = None, hint: str = ""
    ) -> None:
        super().__init__(problem, got=got, expected=expected, hint=hint)
        self.fault = fault

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors cross to other processes; the text is made already.
        return _restore, (self.fault, str(self))


CHECK_OF_FAULT: dict[Fault, str] = {
    "incomplete": "complete",
    "unreadable": "complete",
    "georeference": "georeference",
    "grid": "grid",
    "nodata": "nodata",
    "units": "units",
    "labels": "labels",
}
"""The examination's check that a pair with a fault fails, as `data.tolerated` names it."""


def _restore(fault: Fault, text: str) -> PairError:
    return PairError(fault, text)


class ExaminationError(FusmaeError):
    """A dataset is not what it states, or not what training needs."""


class ClusterError(FusmaeError):
    """The Dask cluster cannot be reached, or its workers die."""


class ShardError(FusmaeError):
    """Shards are damaged, empty or of another format."""


class CheckpointError(FusmaeError):
    """Weights are of another model, damaged or foreign."""


class TrainingError(FusmaeError):
    """A training run cannot go on."""


class ExportError(FusmaeError):
    """An ONNX graph differs from the model it came from."""


class InputError(FusmaeError):
    """Arrays that a model can't be run on."""


class RegistryError(FusmaeError):
    """The MLflow registry or its database refuses."""


class PromotionError(FusmaeError):
    """A version must not become champion, or not from this checkout."""


class LineageError(FusmaeError):
    """What made a version is not known, not to be had, or does not make it again."""


class LedgerError(FusmaeError):
    """The ledger of champions was changed, or somebody else writes to it."""


class CheckoutError(FusmaeError):
    """A second checkout of the project cannot be made."""


class StudyError(FusmaeError):
    """A study's cells are absent, damaged or not comparable."""


class StorageError(FusmaeError):
    """The disk is full, or a file cannot be written."""
