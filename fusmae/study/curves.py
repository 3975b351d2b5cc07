"""Precision-recall curves, confusion counts and predicted values from the test set's predictions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import multilabel_confusion_matrix, precision_recall_curve

from fusmae.config.task import Kind
from fusmae.study.results import Found, Row
from fusmae.study.summary import Study, Use

_POINTS = 100
_MOST_VALUES = 400
_THRESHOLD = 0.5


@dataclass(frozen=True)
class MicroCurve:
    """Micro-averaged precision over recall (ascending) of a variant's first seed, thinned evenly in recall."""

    variant: str
    use: Use
    recall: NDArray[np.float64]
    precision: NDArray[np.float64]


@dataclass(frozen=True)
class Confusion:
    """Confusion counts of a use, summed over seeds."""

    use: Use  # protocol and share of labels
    seeds: tuple[int, ...]  # random seeds of the cells
    counts: NDArray[Any]  # `[K, K]`, rows true, columns predicted; for multilabel `[K, 2, 2]`, one matrix per class


@dataclass(frozen=True)
class ValueScatter:
    """Predicted values of test tiles over true ones, of the reference's first seed, thinned evenly."""

    use: Use  # protocol and share of labels
    true: NDArray[np.float64]  # true values `[N]`
    predicted: NDArray[np.float64]  # predicted values `[N]`


def micro_curves(study: Study) -> list[MicroCurve]:
    """One curve per variant, protocol and share with predictions, from the variant's first seed that has them."""
    curves = []
    for variant in study.variants:
        for use in study.uses:
            for found, row in _predicted(study, variant, use, "multilabel")[:1]:
                truth, chances = found.labels.ravel(), found.predictions[row.name].ravel()
                precision, recall, _ = precision_recall_curve(truth, chances, drop_intermediate=True)
                at = np.unique(np.searchsorted(recall[::-1], np.linspace(0, 1, _POINTS)))
                curves.append(MicroCurve(variant, use, recall[::-1][at], precision[::-1][at]))
    return curves


def confusions(study: Study) -> list[Confusion]:
    """The reference's counts, one per protocol, with its largest share of labels; summed over seeds."""
    counted = []
    for use in study.largest_uses:
        cells = [
            (found, found.confusions[row.name])
            for found, row in _rows(study, study.reference, use)
            if row.name in found.confusions
        ]
        cells = cells or [
            (found, multilabel_confusion_matrix(found.labels, found.predictions[row.name] >= _THRESHOLD))
            for found, row in _predicted(study, study.reference, use, "multilabel")
        ]
        if cells:
            seeds = tuple(found.cell.seed for found, _ in cells)
            counted.append(Confusion(use, seeds, np.sum([counts for _, counts in cells], axis=0)))
    return counted


def value_scatters(study: Study) -> list[ValueScatter]:
    """The reference's predicted values, one per protocol that has some, with its largest share of labels."""
    scatters = []
    for use in study.largest_uses:
        for found, row in _predicted(study, study.reference, use, "regression")[:1]:
            rows = np.unique(np.linspace(0, len(found.labels) - 1, _MOST_VALUES).astype(int))
            true, predicted = (array[rows, 0] for array in (found.labels, found.predictions[row.name]))
            scatters.append(ValueScatter(use, true.astype(np.float64), predicted.astype(np.float64)))
    return scatters


def _rows(study: Study, variant: str, use: Use) -> list[tuple[Found, Row]]:
    """A variant's rows of a use, with all modalities that it can take, by seed."""
    own = study.own_condition(variant)
    return [
        (found, row)
        for found in study.of(variant)
        for row in found.cell.rows
        if (row.protocol, row.share) == use and row.condition == own
    ]


def _predicted(study: Study, variant: str, use: Use, kind: Kind) -> Sequence[tuple[Found, Row]]:
    """Rows of a kind whose predictions are there, with labels."""
    rows = _rows(study, variant, use)
    return [
        (found, row) for found, row in rows if row.kind == kind and row.name in found.predictions and found.labels.any()
    ]
