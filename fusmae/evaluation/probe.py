"""A linear probe on features: logistic regression, with the regularisation chosen on validation."""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fusmae.evaluation.metrics import average_precisions

# Values of C, from strong to weak regularisation; of equally good ones the first is chosen.
_STRENGTHS = tuple(10.0**power for power in range(-5, 2))
_MAX_STEPS = 200


def linear_probabilities(
    train_features: NDArray[Any],
    train_labels: NDArray[Any],
    validation_features: NDArray[Any],
    validation_labels: NDArray[Any],
    targets: Sequence[NDArray[Any]],
    kind: Literal["multilabel", "multiclass"],
) -> tuple[list[NDArray[Any]], float]:
    """Fit on labelled rows of train, choose the regularisation on validation, then predict.

    Args:
        train_features: features `[N, D]` of the labelled rows.
        train_labels: labels `[N, K]`, 0 or 1; one-hot for `multiclass`.
        validation_features: features `[V, D]` of validation.
        validation_labels: labels `[V, K]` of validation.
        targets: features `[M, D]` to predict from, several arrays because a test set may be seen in several conditions.
        kind: kind of task: multilabel, one regression per class, chosen by macro AP; or multiclass, one regression,
            chosen by accuracy.

    Returns:
        Probabilities `[M, K]` for each of `targets`; and the chosen C, the inverse strength of regularisation. A class
        that all labelled rows have, or none, can't be fitted: its probability is its share of these rows, 1 or 0.
    """
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train_features)
    train, validation, *others = (scaler.transform(part) for part in (train_features, validation_features, *targets))
    fits = _multilabel_fits if kind == "multilabel" else _multiclass_fits
    best, chosen, found = -np.inf, _STRENGTHS[0], [np.empty(0)]
    for strength, (judged, *predicted) in zip(
        _STRENGTHS, fits(train, train_labels, [validation, *others]), strict=True
    ):
        headline = _headline(kind, validation_labels, judged)
        if headline > best:
            best, chosen, found = headline, strength, predicted
    return found, chosen


def _headline(kind: str, labels: NDArray[Any], probabilities: NDArray[Any]) -> float:
    from sklearn.metrics import accuracy_score

    if kind == "multilabel":
        return average_precisions(labels, probabilities)[1]
    return float(accuracy_score(labels.argmax(axis=1), probabilities.argmax(axis=1)))


def _multilabel_fits(
    features: NDArray[Any], labels: NDArray[Any], targets: Sequence[NDArray[Any]]
) -> Iterator[list[NDArray[Any]]]:
    """Probabilities of each of `targets`, by strength."""
    known = np.flatnonzero(labels.any(axis=0) & ~labels.all(axis=0))
    regressions = {column: _regression() for column in known}
    for strength in _STRENGTHS:
        found = [np.tile(labels.mean(axis=0), (len(target), 1)) for target in targets]
        for column, regression in regressions.items():
            _fit(regression, strength, features, labels[:, column] > 0)
            for target, probabilities in zip(targets, found, strict=True):
                probabilities[:, column] = regression.predict_proba(target)[:, 1]
        yield found


def _multiclass_fits(
    features: NDArray[Any], labels: NDArray[Any], targets: Sequence[NDArray[Any]]
) -> Iterator[list[NDArray[Any]]]:
    """Probabilities of each of `targets`, by strength."""
    truth = labels.argmax(axis=1)
    regression = _regression()
    for strength in _STRENGTHS:
        found = [np.tile(labels.mean(axis=0), (len(target), 1)) for target in targets]
        if len(np.unique(truth)) > 1:
            _fit(regression, strength, features, truth)
            for target, probabilities in zip(targets, found, strict=True):
                probabilities[:, regression.classes_] = regression.predict_proba(target)
        yield found


def _regression() -> Any:
    from sklearn.linear_model import LogisticRegression

    # Each fit starts from the solution for the previous strength, which is near its own.
    return LogisticRegression(max_iter=_MAX_STEPS, warm_start=True)


def _fit(regression: Any, strength: float, features: NDArray[Any], truth: NDArray[Any]) -> None:
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # The limit of steps is a part of the protocol; with weak regularisation a fit may reach it.
        warnings.simplefilter("ignore", ConvergenceWarning)
        regression.set_params(C=strength).fit(features, truth)
