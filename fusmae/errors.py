"""Every mistake that a user can mend, one class per place of the fault, all of them directly under `FusmaeError`.

Each message states what is wrong and where, what was found, what was expected and what to run next.
"""

from collections.abc import Sequence
from typing import Any, Literal, get_args


class FusmaeError(Exception):
    """A mistake that the user can mend; the command line prints its text without a traceback.

    Args:
        problem: sentence that states what is wrong and where.
        got: value that was found.
        expected: value that would have been right.
        hint: command to run, or step to take, next.
    """

    def __init__(self, problem: str, *, got: object = None, expected: object = None, hint: str = "") -> None:
        parts = {"got": got, "expected": expected, "next": hint or None}
        stated = [f"  {f'{name}:':10}{value}" for name, value in parts.items() if value is not None]
        super().__init__("\n".join([problem, *stated]))


class ConfigError(FusmaeError):
    """params.yaml is wrong: an unknown key, a wrong type, values that don't fit together."""


class SourceError(FusmaeError):
    """Raw data are unavailable, or differ from what their source promises."""


Fault = Literal["incomplete", "unreadable", "georeference", "grid", "nodata", "units", "labels"]
"""Kinds of faults that a pair can have; `CHECK_OF_FAULT` gives the examination's check for each."""


class PairError(FusmaeError):
    """One pair lacks a modality or a band, or its pixels can't be used.

    Args:
        fault: kind of the fault.
        problem: see `FusmaeError`, also for the other arguments.
    """

    def __init__(
        self, fault: Fault, problem: str, *, got: object = None, expected: object = None, hint: str = ""
    ) -> None:
        super().__init__(problem, got=got, expected=expected, hint=hint)
        self.fault = fault

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors are pickled to reach other processes; the text already contains `got`, `expected` and `hint`.
        return PairError, (self.fault, str(self))


CHECK_OF_FAULT: dict[Fault, str] = {
    **{fault: fault for fault in get_args(Fault)},
    "incomplete": "complete",
    "unreadable": "complete",
}
"""Name of the examination's check that a pair with this fault fails; `data.tolerated` uses the same names."""


class ExaminationError(FusmaeError):
    """A dataset differs from its own description, or does not meet the needs of training."""


class ClusterError(FusmaeError):
    """The Dask cluster cannot be reached, or its workers die."""


class ShardError(FusmaeError):
    """Shards are damaged, empty or of another format."""


class CheckpointError(FusmaeError):
    """Weights belong to another model, or their file is damaged or foreign."""


class TrainingError(FusmaeError):
    """A training run cannot go on, as after a loss that is not finite."""


class ExportError(FusmaeError):
    """An ONNX graph differs from the model it came from."""


class InputError(FusmaeError):
    """A model can't be run on the given arrays."""


class RegistryError(FusmaeError):
    """The MLflow registry or its database refuses a request, or lacks what was asked for."""


class PromotionError(FusmaeError):
    """A version must not become champion, or this checkout must not decide it."""


class LineageError(FusmaeError):
    """What made a version is unknown or unavailable, or making it again gives another one."""


class LedgerError(FusmaeError):
    """Entries of the ledger of champions were altered, or another process writes to it."""


class CheckoutError(FusmaeError):
    """A second checkout of the project cannot be made."""


class StudyError(FusmaeError):
    """A study's cells are absent, damaged or not comparable."""


class StorageError(FusmaeError):
    """The disk is full, or a file cannot be written."""


def first_three(texts: Sequence[str], separator: str = ", ") -> str:
    """Return up to three of the texts, with a sign where there are more."""
    return separator.join(texts[:3]) + (" …" if len(texts) > 3 else "")
