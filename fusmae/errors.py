"""The error tree: every mistake a user can make, by what is at fault.

FusmaeError
├── ConfigError        params.yaml: an unknown key, a wrong type, values that don't fit together
├── SourceError        raw data: cannot be had, or is not what its source says it is
├── PairError          one pair: a missing side or band, pixels that can't be used
├── ShardError         shards: a wrong checksum, an empty split, another format
├── CheckpointError    weights: another model, a damaged or foreign file
├── TrainingError      a run that cannot go on (non-finite loss)
├── ExportError        an ONNX graph that differs from the model it came from
├── InputError         arrays that a model can't be run on
├── RegistryError      the MLflow registry or its database
└── StorageError       the disk is full, or a file cannot be written

Each message says what is wrong, where, what was got, what was expected and what to run next.
"""


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


class PairError(FusmaeError):
    """One pair lacks a side or a band, or its pixels can't be used."""


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


class StorageError(FusmaeError):
    """The disk is full, or a file cannot be written."""
