"""Scores for tasks in which each pair has one class, over a whole test set at once."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def class_scores(
    labels: NDArray[Any], probabilities: NDArray[Any], classes: Sequence[str]
) -> tuple[dict[str, float], dict[str, float]]:
    """Score predictions.

    Args:
        labels: one-hot labels `[N, K]`.
        probabilities: probabilities `[N, K]`; the highest one is the predicted class.
        classes: names of the K classes.

    Returns:
        Scores `accuracy`, `macro_f1` and `macro_ap` (each class against the rest), the macro ones as means over the
        classes that occur in the set; and the AP of each of these classes by name.
    """
    from sklearn.metrics import accuracy_score, average_precision_score, f1_score

    truth, predicted = labels.argmax(axis=1), probabilities.argmax(axis=1)
    present = np.unique(truth)
    precisions = average_precision_score(labels[:, present], probabilities[:, present], average=None)
    per_class = dict(zip((classes[column] for column in present), np.atleast_1d(precisions).tolist(), strict=True))
    scores = {
        "accuracy": float(accuracy_score(truth, predicted)),
        "macro_f1": float(f1_score(truth, predicted, labels=present, average="macro", zero_division=0)),
        "macro_ap": float(np.mean(precisions)),
    }
    return scores, per_class


def confusion(labels: NDArray[Any], probabilities: NDArray[Any]) -> NDArray[np.int64]:
    """Confusion matrix `[K, K]`: true classes in rows, predicted ones in columns; arguments as for `class_scores`."""
    from sklearn.metrics import confusion_matrix

    num_classes = labels.shape[1]
    found = confusion_matrix(labels.argmax(axis=1), probabilities.argmax(axis=1), labels=range(num_classes))
    return np.asarray(found, dtype=np.int64)
