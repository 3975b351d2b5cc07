"""Average precision and curves over a whole test set at once (never averaged over batches)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, average_precision_score, precision_recall_curve, r2_score

from fusmae.config.task import Task

_AP = ("micro_ap", "macro_ap")


def average_precisions(labels: NDArray[Any], probabilities: NDArray[Any]) -> tuple[float, float]:
    """Micro AP, and macro AP over the classes that occur, of labels `[N, K]` (0 or 1) and of scores `[N, K]`.

    Any monotone function of the probability will do as a score.
    """
    present = labels.any(axis=0)
    if not present.any():  # a small draw without any label; scikit-learn gives 0 for a class without labels, too
        return 0.0, 0.0
    # Micro AP includes absent classes, because predictions of them are wrong.
    micro = average_precision_score(labels, probabilities, average="micro")
    macro = average_precision_score(labels[:, present], probabilities[:, present], average="macro")
    return float(micro), float(macro)


def class_aps(labels: NDArray[Any], probabilities: NDArray[Any]) -> list[float]:
    """AP of each class that occurs, in the order of the columns; arguments as for `average_precisions`."""
    present = np.flatnonzero(labels.any(axis=0))
    found = average_precision_score(labels[:, present], probabilities[:, present], average=None)
    return [float(value) for value in np.atleast_1d(found)]


def average_precision_draws(
    labels: NDArray[Any], probabilities: NDArray[Any], weights: NDArray[np.int32], metrics: Sequence[str] = _AP
) -> dict[str, NDArray[np.float64]]:
    """Average precision `[draws]` by metric, 0 where the draw has no label.

    Args:
        labels: labels `[N, K]`, 0 or 1.
        probabilities: probabilities `[N, K]` in 0..1.
        weights: weights `[draws, N]` from `place_resamples`.
        metrics: names: micro_ap, over all (pair, class) decisions; macro_ap, over the classes in the draw.
    """
    import torch

    # scikit-learn's function accepts weights but takes three times as long, mostly to check its arguments.
    from torchmetrics.functional.classification import multilabel_average_precision

    # At least float32, because sorting half precision is slow on a CPU.
    chances = torch.from_numpy(probabilities.astype(np.promote_types(probabilities.dtype, np.float32)))
    truth = torch.from_numpy(labels > 0).long()
    found = {name: np.zeros(len(weights)) for name in metrics}
    for at, row in enumerate(weights):
        pairs = torch.from_numpy(np.repeat(np.arange(len(row)), row))
        drawn, given = truth[pairs], chances[pairs]
        present = drawn.any(dim=0).nonzero().flatten()
        if not len(present):
            continue
        for name, scores in found.items():
            # Micro AP includes absent classes, because predictions of them are wrong.
            columns = present if name == "macro_ap" else torch.arange(truth.shape[1])
            how: Any = {"num_labels": len(columns), "average": name.removesuffix("_ap"), "validate_args": False}
            scores[at] = multilabel_average_precision(given[:, columns], drawn[:, columns], **how)
    return found


def precision_recall(labels: NDArray[Any], probabilities: NDArray[Any]) -> list[dict[str, float]]:
    """Points of the micro-averaged precision-recall curve, in order of recall."""
    precision, recall, _ = precision_recall_curve(labels.ravel(), probabilities.ravel())
    return [{"recall": float(x), "precision": float(y)} for x, y in zip(recall[::-1], precision[::-1], strict=True)]


def headline_of(task: Task) -> str:
    """Name of the score by which ways of reading labels of tiles from features are compared."""
    if task.value is not None:
        return "r2"
    return "accuracy" if task.kind == "multiclass" else "macro_ap"


def headline(task: Task, labels: NDArray[Any], found: NDArray[Any]) -> float:
    """The score of `headline_of` for predictions `[N, K]` of a task of tiles; see `scorers` for labels."""
    match headline_of(task):
        case "r2":
            return float(r2_score(labels, found))
        case "accuracy":
            return float(accuracy_score(labels.argmax(axis=1), found.argmax(axis=1)))
    return average_precisions(labels, found)[1]
