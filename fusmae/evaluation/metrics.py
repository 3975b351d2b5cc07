"""Scores over a whole test set at once (never averaged over batches), for several classes per pair or exactly one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    confusion_matrix,
    f1_score,
    jaccard_score,
    precision_recall_curve,
)

from fusmae.config.training import LabelKind


@dataclass(frozen=True)
class Scores:
    """Scores of one row of the table; macro means are over the classes that occur in the set."""

    micro_ap: float  # average precision over all (pair, class) decisions
    macro_ap: float  # mean AP of the classes
    micro_f1: float  # F1 over all (pair, class) decisions, at the threshold
    macro_f1: float  # mean F1 of the classes, at the threshold
    per_class_ap: dict[str, float]  # AP by class name
    absent_classes: tuple[str, ...]  # names of the classes without a positive pair


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


def score(labels: NDArray[Any], probabilities: NDArray[Any], classes: Sequence[str], threshold: float) -> Scores:
    """Score probabilities `[N, K]` against labels `[N, K]` (0 or 1) over the whole set.

    For F1 a class counts as predicted from a probability of `threshold`.
    """
    labels, predicted = labels.astype(int), (probabilities >= threshold).astype(int)
    present, per_class = labels.any(axis=0), _class_aps(labels, probabilities, classes)
    micro_f1 = float(f1_score(labels, predicted, average="micro", zero_division=0))
    macro_f1 = float(f1_score(labels[:, present], predicted[:, present], average="macro", zero_division=0))
    absent = tuple(name for name in classes if name not in per_class)
    return Scores(*average_precisions(labels, probabilities), micro_f1, macro_f1, per_class, absent)


def _class_aps(labels: NDArray[Any], probabilities: NDArray[Any], classes: Sequence[str]) -> dict[str, float]:
    """AP by name, of the classes that occur."""
    present = np.flatnonzero(labels.any(axis=0)).tolist()
    found = average_precision_score(labels[:, present], probabilities[:, present], average=None)
    return dict(zip((classes[column] for column in present), np.atleast_1d(found).tolist(), strict=True))


def precision_recall(labels: NDArray[Any], probabilities: NDArray[Any]) -> list[dict[str, float]]:
    """Points of the micro-averaged precision-recall curve, in order of recall."""
    precision, recall, _ = precision_recall_curve(labels.ravel(), probabilities.ravel())
    return [{"recall": float(x), "precision": float(y)} for x, y in zip(recall[::-1], precision[::-1], strict=True)]


def class_scores(
    labels: NDArray[Any], probabilities: NDArray[Any], classes: Sequence[str]
) -> tuple[dict[str, float], dict[str, float]]:
    """Scores by name, and AP by class, of probabilities `[N, K]` whose highest one is the predicted class.

    Labels `[N, K]` are one-hot. Scores are `accuracy`, `macro_f1` and `macro_ap` (each class against the rest), the
    macro ones as means over the classes that occur in the set.
    """
    truth, predicted = labels.argmax(axis=1), probabilities.argmax(axis=1)
    per_class = _class_aps(labels, probabilities, classes)
    scores = {
        "accuracy": float(accuracy_score(truth, predicted)),
        "macro_f1": float(f1_score(truth, predicted, labels=np.unique(truth), average="macro", zero_division=0)),
        "macro_ap": float(np.mean(list(per_class.values()))),
    }
    return scores, per_class


def confusion(labels: NDArray[Any], probabilities: NDArray[Any]) -> NDArray[np.int64]:
    """Confusion matrix `[K, K]`: true classes in rows, predicted ones in columns; arguments as for `class_scores`."""
    found = confusion_matrix(labels.argmax(axis=1), probabilities.argmax(axis=1), labels=range(labels.shape[1]))
    return np.asarray(found, dtype=np.int64)


def segmentation_scores(confusion: NDArray[Any], classes: Sequence[str]) -> tuple[dict[str, float], dict[str, float]]:
    """Scores of all pixels that have a class, counted together in `confusion` `[K, K]`, true classes in rows.

    Returns:
        Scores `miou`, the mean IoU of the classes that have a true pixel, and `accuracy`; then the IoU of each of
        these classes by name.

    Raises:
        ValueError: no pixel has a class.
    """
    present = np.flatnonzero(confusion.sum(axis=1))
    if not present.size:
        raise ValueError("no pixel has a class")
    true, predicted = (places.ravel() for places in np.indices(confusion.shape))
    pixels = confusion.ravel()
    ious = jaccard_score(true, predicted, labels=present, average=None, sample_weight=pixels)
    accuracy = accuracy_score(true, predicted, sample_weight=pixels)
    by_name = dict(zip((classes[place] for place in present.tolist()), ious.tolist(), strict=True))
    return {"miou": float(np.mean(ious)), "accuracy": float(accuracy)}, by_name


def headline(kind: LabelKind, labels: NDArray[Any], probabilities: NDArray[Any]) -> float:
    """The score by which ways of predicting are compared: macro AP, or accuracy for `multiclass`.

    Labels `[N, K]` are 0 or 1, and one-hot for `multiclass`; probabilities are `[N, K]`.
    """
    if kind == "multilabel":
        return average_precisions(labels, probabilities)[1]
    return float((labels.argmax(axis=1) == probabilities.argmax(axis=1)).mean())
