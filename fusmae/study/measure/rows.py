"""Turn predictions into rows: scores over the whole test set, and bootstrap draws for intervals."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fusmae.evaluation.metrics import average_precisions, score
from fusmae.evaluation.multiclass import class_scores, confusion
from fusmae.evaluation.resampling import headline_draws, miou_draws
from fusmae.study.results import FOCUS, Row
from fusmae.training.segmentation import segmentation_scores

_THRESHOLD = 0.5


@dataclass
class RowBook:
    """The rows of one cell collected one by one, with the predictions that the report draws.

    Attributes:
        kind: kind of the label vectors.
        labels: label vectors `[N, K]` of test.
        classes: names of the K classes.
        weights: numbers `[draws, N]` of times that each resample contains each test pair.
        focus: columns of the classes in focus; empty where none are.
        rows: rows added so far.
        predictions: probabilities `[N, K]` by row name.
        confusions: confusion counts `[K, K]` by row name.
    """

    kind: Literal["multilabel", "multiclass"]
    labels: NDArray[Any]
    classes: Sequence[str]
    weights: NDArray[np.int32]
    focus: Sequence[int] = ()
    rows: list[Row] = field(default_factory=list)
    predictions: dict[str, NDArray[Any]] = field(default_factory=dict)
    confusions: dict[str, NDArray[Any]] = field(default_factory=dict)

    def add(self, protocol: str, share: float, condition: str, probabilities: NDArray[Any]) -> None:
        """Score probabilities `[N, K]` against the label vectors."""
        if self.kind == "multilabel":
            found = score(self.labels, probabilities, self.classes, _THRESHOLD)
            scores = {name: getattr(found, name) for name in ("macro_ap", "micro_ap", "macro_f1", "micro_f1")}
            per_class = found.per_class_ap
        else:
            scores, per_class = class_scores(self.labels, probabilities, self.classes)
        draws = headline_draws(self.kind, self.labels, probabilities, self.weights)
        focus_draws: list[float] = []
        if self.focus:
            own = self.labels[:, self.focus], probabilities[:, self.focus]
            scores[FOCUS] = average_precisions(*own)[1]
            focus_draws = _rounded(headline_draws(self.kind, *own, self.weights))
        row = Row(protocol, share, condition, self.kind, scores, per_class, _rounded(draws), focus_draws)
        self.rows.append(row)
        self.predictions[row.name] = probabilities
        if self.kind == "multiclass":
            self.confusions[row.name] = confusion(self.labels, probabilities)

    def add_maps(self, share: float, condition: str, confusions: NDArray[Any], classes: Sequence[str]) -> None:
        """Score land-cover maps by their confusion counts `[N, K, K]`, one matrix per pair."""
        total = confusions.sum(axis=0)
        scores, per_class = segmentation_scores(total, classes)
        draws = _rounded(miou_draws(confusions, self.weights))
        row = Row("segment", share, condition, "segmentation", scores, per_class, draws)
        self.rows.append(row)
        self.confusions[row.name] = total


def _rounded(draws: NDArray[np.float64]) -> list[float]:
    return [round(float(value), 5) for value in draws]
