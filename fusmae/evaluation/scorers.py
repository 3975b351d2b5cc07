"""One scorer per kind of labels: scores over a whole test set, and on bootstrap draws of it.

What a scorer takes of a model, `found`, has one row per test pair: probabilities `[N, K]`, values `[N, 1]`, or for maps
the counts `[N, S]` of `fusmae.evaluation.map_counts`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn import config_context
from sklearn.metrics import accuracy_score, f1_score, jaccard_score, recall_score

from fusmae.config.task import Task
from fusmae.evaluation.map_counts import NUM_BORDERS, sums_of_values
from fusmae.evaluation.metrics import average_precision_draws, average_precisions, class_aps

LABELS: Mapping[str, str] = {
    "micro_ap": "micro AP",
    "macro_ap": "macro AP",
    "micro_f1": "micro F1",
    "macro_f1": "macro F1",
    "accuracy": "top-1 accuracy",
    "balanced_accuracy": "balanced accuracy",
    "miou": "mean IoU",
    "pixel_accuracy": "pixel accuracy",
    "boundary_f1": "boundary F1",
    "r2": "R²",
    "rmse": "RMSE",
    "mae": "MAE",
    "bias": "bias",
}
"""Names of scores in tables."""


LOWER_IS_BETTER = frozenset({"rmse", "mae"})
"""Names of scores of which less is better."""


@dataclass(frozen=True)
class Scores:
    """Scores of one row of the table; macro means are over the classes that occur in the set."""

    values: Mapping[str, float]  # scores by name
    per_class: Mapping[str, float]  # score of each class that occurs, by its name; empty for a value
    absent_classes: tuple[str, ...]  # names of the classes that don't occur

    def __getitem__(self, metric: str) -> float:
        return self.values[metric]


class Scorer(ABC):
    """Scores of one kind of labels `[N, K]` of a test set; those of maps are in the counts instead."""

    metrics: ClassVar[tuple[str, ...]]
    """Names of the scores that have intervals; the first is the primary one, by which models are compared."""
    others: ClassVar[tuple[str, ...]]
    """Names of further scores."""
    class_metric: ClassVar[str]
    """Name of the score per class; "" where there is none."""

    def __init__(self, task: Task, labels: NDArray[Any], threshold: float = 0.5) -> None:
        self.task, self.labels, self.threshold = task, np.asarray(labels), threshold
        """`threshold` is the probability from which a class of `multilabel` counts as predicted."""

    @abstractmethod
    def score(self, found: NDArray[Any]) -> Scores:
        """Scores over the whole set."""

    @abstractmethod
    def draws(self, found: NDArray[Any], weights: NDArray[np.int32]) -> dict[str, NDArray[np.float64]]:
        """Each of `metrics` on bootstrap draws, `[draws]`; `weights` `[draws, N]` are those of `place_resamples`."""

    def _by_class(self, present: Sequence[int], values: Sequence[float]) -> tuple[dict[str, float], tuple[str, ...]]:
        """Scores by name of the classes that occur, and names of the others."""
        classes = self.task.classes
        found = {classes[at]: float(value) for at, value in zip(present, values, strict=True)}
        return found, tuple(name for name in classes if name not in found)


class MultilabelScorer(Scorer):
    """Average precision and F1, of probabilities `[N, K]`."""

    metrics = ("micro_ap", "macro_ap")
    others = ("micro_f1", "macro_f1")
    class_metric = "AP"

    def score(self, found: NDArray[Any]) -> Scores:
        """See `Scorer`; a class counts as predicted from a probability of `threshold`."""
        labels, predicted = self.labels.astype(int), (found >= self.threshold).astype(int)
        present = labels.any(axis=0)
        by_class, absent = self._by_class(np.flatnonzero(present).tolist(), class_aps(labels, found))
        micro_ap, macro_ap = average_precisions(labels, found)
        values = {
            "micro_ap": micro_ap,
            "macro_ap": macro_ap,
            "micro_f1": float(f1_score(labels, predicted, average="micro", zero_division=0)),
            "macro_f1": float(f1_score(labels[:, present], predicted[:, present], average="macro", zero_division=0)),
        }
        return Scores(values, by_class, absent)

    def draws(self, found: NDArray[Any], weights: NDArray[np.int32]) -> dict[str, NDArray[np.float64]]:
        """See `Scorer`."""
        return average_precision_draws(self.labels, found, weights)


class _ConfusionScorer(Scorer):
    """Scores that follow from a confusion matrix."""

    @abstractmethod
    def _counts(self, found: NDArray[Any], weights: NDArray[Any]) -> NDArray[np.float64]:
        """Confusion matrices `[D, K, K]` of weighted pairs, true classes in rows; `weights` are `[D, N]`."""

    def confusion(self, found: NDArray[Any]) -> NDArray[np.int64]:
        """Confusion matrix `[K, K]` over the whole set, true classes in rows, predicted ones in columns."""
        return np.asarray(np.rint(self._counts(found, np.ones((1, len(found))))[0]), np.int64)

    def draws(self, found: NDArray[Any], weights: NDArray[np.int32]) -> dict[str, NDArray[np.float64]]:
        """See `Scorer`; a draw without any label has 0."""
        drawn = np.array([list(self._scores(counts).values()) for counts in self._counts(found, weights)])
        return dict(zip(self.metrics, drawn.reshape(-1, len(self.metrics)).T, strict=True))

    def _scores(self, confusion: NDArray[np.float64]) -> dict[str, float]:
        """Each of `metrics` of a confusion matrix; macro means are over the classes that have a true label."""
        true, predicted = np.indices(confusion.shape).reshape(2, -1)
        counts, present = confusion.ravel(), np.flatnonzero(confusion.sum(axis=1))
        if not present.size:
            return dict.fromkeys(self.metrics, 0.0)
        how: dict[str, Any] = {"sample_weight": counts}
        with config_context(assume_finite=True, skip_parameter_validation=True):
            if self.task.kind == "segmentation":
                ious = jaccard_score(true, predicted, labels=present, average="macro", zero_division=0, **how)
                return {"miou": float(ious), "pixel_accuracy": float(accuracy_score(true, predicted, **how))}
            # scikit-learn's balanced accuracy warns of predicted classes that have no true label.
            recall = recall_score(true, predicted, labels=present, average="macro", zero_division=0, **how)
            return {"accuracy": float(accuracy_score(true, predicted, **how)), "balanced_accuracy": float(recall)}


class MulticlassScorer(_ConfusionScorer):
    """Accuracy of the most probable class, of probabilities `[N, K]`; labels are one-hot."""

    metrics = ("accuracy", "balanced_accuracy")
    others = ("macro_f1", "macro_ap")
    class_metric = "recall"

    def score(self, found: NDArray[Any]) -> Scores:
        """See `Scorer`."""
        true, predicted = self.labels.argmax(axis=1), found.argmax(axis=1)
        present = np.unique(true)
        recalls = recall_score(true, predicted, labels=present, average=None, zero_division=0)
        by_class, absent = self._by_class(present.tolist(), recalls.tolist())
        values = self._scores(self.confusion(found).astype(np.float64)) | {
            "macro_f1": float(f1_score(true, predicted, labels=present, average="macro", zero_division=0)),
            "macro_ap": average_precisions(self.labels.astype(int), found)[1],
        }
        return Scores(values, by_class, absent)

    def _counts(self, found: NDArray[Any], weights: NDArray[Any]) -> NDArray[np.float64]:
        num_classes, rows = self.labels.shape[1], np.arange(len(found))
        cells = self.labels.argmax(axis=1) * num_classes + found.argmax(axis=1)
        one_hot = csr_array((np.ones(len(rows)), (rows, cells)), shape=(len(rows), num_classes**2))
        return np.asarray(weights @ one_hot, np.float64).reshape(-1, num_classes, num_classes)


class SegmentationScorer(_ConfusionScorer):
    """Intersection over union, of counts `[N, S]` of maps."""

    metrics = ("miou", "pixel_accuracy")
    others = ("boundary_f1",)
    class_metric = "IoU"

    def score(self, found: NDArray[Any]) -> Scores:
        """See `Scorer`."""
        confusion = self.confusion(found).astype(np.float64)
        true, predicted = np.indices(confusion.shape).reshape(2, -1)
        present = np.flatnonzero(confusion.sum(axis=1))
        ious = np.zeros(0)
        if present.size:
            weights = confusion.ravel()
            ious = jaccard_score(true, predicted, labels=present, average=None, sample_weight=weights, zero_division=0)
        by_class, absent = self._by_class(present.tolist(), ious.tolist())
        return Scores(self._scores(confusion) | {"boundary_f1": self._boundary_f1(found)}, by_class, absent)

    def _counts(self, found: NDArray[Any], weights: NDArray[Any]) -> NDArray[np.float64]:
        num_classes = len(self.task.classes)
        counts = weights.astype(np.float64) @ found[:, : num_classes**2].astype(np.float64)
        return np.asarray(counts, np.float64).reshape(-1, num_classes, num_classes)

    def _boundary_f1(self, found: NDArray[Any]) -> float:
        """F1 of border pixels: precision is how many predicted ones are near a true one, recall the reverse."""
        start = len(self.task.classes) ** 2
        hits, predicted, met, true = found[:, start : start + NUM_BORDERS].sum(axis=0, dtype=np.float64).tolist()
        precision, recall = hits / max(1.0, predicted), met / max(1.0, true)
        return float(2 * precision * recall / max(precision + recall, 1e-12))


class ValueScorer(Scorer):
    """R², RMSE, MAE and bias, of values `[N, 1]`, or of sums `[N, 6]` where each pixel has a value."""

    metrics = ("r2", "rmse")
    others = ("mae", "bias")
    class_metric = ""

    def score(self, found: NDArray[Any]) -> Scores:
        """See `Scorer`."""
        values = self._of(self._sums(found).sum(axis=0, keepdims=True))
        return Scores({name: float(value[0]) for name, value in values.items()}, {}, ())

    def draws(self, found: NDArray[Any], weights: NDArray[np.int32]) -> dict[str, NDArray[np.float64]]:
        """See `Scorer`."""
        drawn = self._of(weights.astype(np.float64) @ self._sums(found))
        return {name: drawn[name] for name in self.metrics}

    def _sums(self, found: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray(found, np.float64) if self.task.is_dense else sums_of_values(found, self.labels)

    @staticmethod
    def _of(sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Scores `[D]` of summed rows `[D, 6]`: see `sums_of_values`."""
        count, true, true2, error, absolute, error2 = sums.T
        count = np.maximum(count, 1)
        spread = true2 - true**2 / count
        return {
            # Without any spread of the truth there is nothing to explain.
            "r2": np.where(spread > 0, 1 - error2 / np.where(spread > 0, spread, 1.0), 0.0),
            "rmse": np.sqrt(error2 / count),
            "mae": absolute / count,
            "bias": error / count,
        }


def scorer_of(task: Task, labels: NDArray[Any], threshold: float = 0.5) -> Scorer:
    """The scorer of a task over a test set with these labels."""
    kinds: dict[str, type[Scorer]] = {
        "multilabel": MultilabelScorer,
        "multiclass": MulticlassScorer,
        "segmentation": SegmentationScorer,
        "regression": ValueScorer,
    }
    return kinds[task.kind](task, labels, threshold)


def metrics_of(task: Task) -> tuple[str, ...]:
    """Names of the scores by which models of a task may be compared, the primary one first."""
    return scorer_of(task, np.zeros((0, max(1, task.num_outputs)))).metrics
