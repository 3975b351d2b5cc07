"""The linear probe: regression on standardised frozen features, its strength chosen on validation.

It is logistic for classes, and ridge regression for values.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from fusmae.config.task import Task
from fusmae.evaluation.metrics import headline
from fusmae.models.heads import PROBE_EPS, ProbeHead

# Values of C, from strong to weak regularisation; of equally good ones the first is chosen. Ridge takes 1 / C.
_STRENGTHS = tuple(10.0**power for power in range(-5, 2))
_MAX_STEPS = 200
_CERTAIN = 1000.0
"""Logit of a class that all labelled rows have; minus that of one that none has. Its probability is exactly 1 or 0."""


@dataclass(frozen=True)
class LinearProbe:
    """A fitted probe: features are centred, then one linear layer makes a logit per class, or a value."""

    task: Task  # what is predicted of a tile, which says how logits become probabilities
    mean: NDArray[np.float64]  # mean `[D]` of the labelled rows' features
    weight: NDArray[np.float64]  # weights `[K, D]`, with the scale of the features in them
    bias: NDArray[np.float64]  # biases `[K]`
    strength: float  # chosen value of C, the inverse strength of regularisation
    score: float  # score on validation by which it was chosen, see `headline_of`

    def predict(self, features: NDArray[Any]) -> NDArray[np.float64]:
        """Probabilities `[N, K]`, or values `[N, 1]`, from features `[N, D]`."""
        return answers_of_tiles(self.task, (features - self.mean) @ self.weight.T + self.bias)

    def head(self) -> ProbeHead:
        """The same probe as a module in eval mode, in float32."""
        num_classes, dim = self.weight.shape
        head = ProbeHead(dim, num_classes)
        made = {
            # With a variance of 1 the norm only centres: that of a feature may be too small to add `eps` to it.
            "norm.running_mean": self.mean,
            "norm.running_var": np.full(dim, 1 - PROBE_EPS),
            "linear.weight": self.weight,
            "linear.bias": self.bias,
        }
        tensors = {name: torch.from_numpy(array).float() for name, array in made.items()}
        head.load_state_dict(head.state_dict() | tensors)
        return head.eval()


def answers_of_tiles(task: Task, raw: NDArray[Any]) -> NDArray[np.float64]:
    """What a linear layer's numbers `[N, K]` mean for a task of tiles: probabilities, or the values themselves."""
    if task.value is not None:
        return np.asarray(raw, np.float64)
    return np.asarray(expit(raw) if task.kind == "multilabel" else softmax(raw, axis=1))


def fit_probe(
    features: NDArray[Any],
    labels: NDArray[Any],
    validation_features: NDArray[Any],
    validation_labels: NDArray[Any],
    task: Task,
) -> LinearProbe:
    """Fit on labelled rows of train, and choose the strength of regularisation on validation.

    A class that all labelled rows have, or none, can't be fitted: its probability is its share of these rows, 1 or 0.
    Features are `[N, D]` and labels `[N, K]`: 0 or 1 of `multilabel` with one regression per class, or one-hot of
    `multiclass` with one for all; or values `[N, 1]`. The task is one of tiles.
    """
    scaler = StandardScaler().fit(features)
    probes = []
    for strength, (weight, bias) in zip(_STRENGTHS, _fits(scaler.transform(features), labels, task), strict=True):
        probe = LinearProbe(task, scaler.mean_, weight / scaler.scale_, bias, strength, -np.inf)
        found = headline(task, validation_labels, probe.predict(validation_features))
        probes.append(replace(probe, score=found))
    return max(probes, key=lambda probe: probe.score)


def _fits(features: NDArray[Any], labels: NDArray[Any], task: Task) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Weights `[K, D]` of standardised features and biases `[K]`, by strength."""
    if task.value is not None:
        for strength in _STRENGTHS:
            ridge = Ridge(alpha=1 / strength).fit(features, labels)
            yield ridge.coef_.reshape(1, -1), np.atleast_1d(ridge.intercept_)
        return
    # Each fit starts from the solution for the previous strength, which is near its own.
    regression = partial(LogisticRegression, max_iter=_MAX_STEPS, warm_start=True)
    weight = np.zeros((labels.shape[1], features.shape[1]))
    bias = np.where(labels.all(axis=0), _CERTAIN, -_CERTAIN)
    present = np.flatnonzero(labels.any(axis=0))
    truth = labels.argmax(axis=1)
    if task.kind == "multilabel":
        fitted = [column for column in present if not labels[:, column].all()]
        tasks = [([column], labels[:, column] > 0, regression()) for column in fitted]
    elif len(present) == 2:
        # scikit-learn fits the logit of the second class, where that of the first is 0.
        bias[present[0]] = 0.0
        tasks = [([present[1]], truth, regression())]
    else:
        tasks = [(list(present), truth, regression())] if len(present) > 1 else []
    for strength in _STRENGTHS:
        for rows, truth, model in tasks:
            with warnings.catch_warnings():
                # The limit of steps is a part of the protocol; with weak regularisation a fit may reach it.
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.set_params(C=strength).fit(features, truth)
            weight[rows], bias[rows] = model.coef_, model.intercept_
        yield weight.copy(), bias.copy()
