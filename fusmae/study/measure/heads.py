"""kNN and linear probe on frozen features, with some of the training labels."""

from collections.abc import Sequence
from typing import Any, Literal

from numpy.typing import NDArray

from fusmae.evaluation.conditions import Condition
from fusmae.evaluation.features import SplitFeatures
from fusmae.evaluation.neighbours import neighbour_probabilities
from fusmae.evaluation.probe import linear_probabilities

HeadProtocol = Literal["knn", "probe"]


def head_probabilities(
    protocol: HeadProtocol,
    features: SplitFeatures,
    conditions: Sequence[Condition],
    rows: NDArray[Any],
    train_labels: NDArray[Any],
    validation_labels: NDArray[Any],
    *,
    kind: Literal["multilabel", "multiclass"],
    neighbours: int,
) -> dict[str, NDArray[Any]]:
    """Probabilities `[N, K]` of test by condition name; there is one head per setting, with and without clouds.

    Args:
        protocol: kind of head.
        features: features of every split.
        conditions: conditions of the test.
        rows: rows of train whose labels are used.
        train_labels: label vectors `[N, K]` of all of train.
        validation_labels: label vectors `[N, K]` by which the probe's regularisation is chosen.
        kind: kind of label vector.
        neighbours: number k of neighbours.
    """
    found: dict[str, NDArray[Any]] = {}
    for setting in dict.fromkeys(condition.setting for condition in conditions):
        names = [condition.name for condition in conditions if condition.setting == setting]
        known, labels = features.train[setting][rows], train_labels[rows]
        targets = [features.test[name] for name in names]
        if protocol == "knn":
            probabilities = [neighbour_probabilities(known, labels, target, k=neighbours) for target in targets]
        else:
            chosen_by = features.validation[setting]
            probabilities, _ = linear_probabilities(known, labels, chosen_by, validation_labels, targets, kind)
        found |= dict(zip(names, probabilities, strict=True))
    return found
