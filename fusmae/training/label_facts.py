"""What a supervised training takes from its labels before it starts: weights of classes, the scale of values."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.data.pixels import NO_CLASS
from fusmae.data.shards import ShardReader
from fusmae.errors import TrainingError

_BATCH = 64
_MOST_WEIGHT = 10.0
"""Largest weight of a class: a class with a handful of pixels must not rule the loss."""


def require_labels(reader: ShardReader) -> None:
    """Refuse training pairs from which nothing can be learned.

    Raises:
        TrainingError: no pair has a label; or all of them have the same class, where exactly one is asked for.
    """
    task, labels = reader.task, reader.labels
    got = "no pair of train has a label" if not reader.has_labels else ""
    if not got and task.kind in ("multiclass", "segmentation") and labels.any(axis=0).sum() == 1:
        got = f"one class alone, {task.classes[int(labels.any(axis=0).argmax())]}"
    if got:
        raise TrainingError(
            f"Labels of kind {task.kind} can't be learned from these training pairs.",
            got=got,
            expected="labels, of two classes or more" if task.classes else f"numbers of {task.noun}",
            hint="look at reports/examine/report.html; then bring labels, and `fusmae update`",
        )


def class_weights(reader: ShardReader) -> NDArray[np.float64]:
    """Weight `[K]` of each class, inverse to how often train has it: 1 on average, `_MOST_WEIGHT` at most.

    A class of a segmentation is as frequent as its pixels, of the other kinds as its pairs. A class that train lacks
    has weight 1.
    """
    counts = np.zeros(len(reader.task.classes))
    if reader.task.kind == "segmentation":
        for pixels in _maps(reader):
            counts += np.bincount(pixels.ravel(), minlength=NO_CLASS + 1)[: len(counts)]
    else:
        counts += reader.labels.sum(axis=0)
    known = counts > 0
    weights = np.where(known, counts.sum() / np.where(known, counts, 1.0), 0.0)
    weights /= weights[known].mean()
    return np.where(known, weights.clip(max=_MOST_WEIGHT), 1.0)


def positive_weights(reader: ShardReader) -> NDArray[np.float64]:
    """Weight `[K]` of pairs that have a class, in a multilabel loss: pairs without it per pair with it."""
    counts = reader.labels.sum(axis=0, dtype=np.float64)
    return np.where(counts > 0, (len(reader) - counts) / counts.clip(min=1), 1.0).clip(1.0, _MOST_WEIGHT)


def value_moments(reader: ShardReader) -> tuple[float, float]:
    """Mean and standard deviation of all values of train, in the unit of the task.

    Raises:
        TrainingError: all values are the same.
    """
    task = reader.task
    # Two passes: the second sums squares of differences from the mean, which loses no digits.
    mean = _mean(reader, lambda numbers: numbers)
    std = _mean(reader, lambda numbers: (numbers - mean) ** 2) ** 0.5
    if not std > 0:
        raise TrainingError(
            f"All training values of {task.value.name if task.value else 'the value'} are {mean:g}: nothing to learn.",
            expected="values that differ",
            hint="look at reports/examine/report.html; then bring other labels, and `fusmae update`",
        )
    return mean, std


def _mean(reader: ShardReader, of: Any) -> float:
    total, count = 0.0, 0
    for part in _maps(reader) if reader.task.is_dense else [reader.labels]:
        numbers = part[np.isfinite(part)].astype(np.float64)
        total, count = total + float(of(numbers).sum()), count + numbers.size
    return total / max(1, count)


def _maps(reader: ShardReader) -> Iterator[NDArray[Any]]:
    rows = range(len(reader))
    return (reader.read_maps(rows[start : start + _BATCH]) for start in rows[::_BATCH])
