"""Nearest neighbours: a test of features without any training on top of them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsRegressor


def neighbour_answers(
    train_features: NDArray[Any], train_labels: NDArray[Any], features: NDArray[Any], k: int = 20
) -> NDArray[Any]:
    """Mean of the labels of a row's `k` nearest labelled rows, where nearer rows count more: of a class its share.

    Neighbours are found by cosine distance, and weighted by its inverse. So there is no temperature, which would have
    to fit the features of every model.

    Args:
        train_features: features `[N, D]` of the labelled rows.
        train_labels: labels `[N, K]`, 0 or 1, one-hot where each row has one class; or values `[N, 1]`.
        features: features `[M, D]` of the rows to predict; the answers are `[M, K]`.
        k: number of neighbours; all N if there are fewer.
    """
    # A weighted mean of labels is a probability, for one class per row as well as for several.
    neighbours = KNeighborsRegressor(min(k, len(train_labels)), weights="distance", metric="cosine", algorithm="brute")
    neighbours.fit(train_features, train_labels.astype(np.float64))
    # A mean lies between its terms, but for rounding.
    return (
        np.asarray(neighbours.predict(features)).reshape(len(features), -1).clip(train_labels.min(), train_labels.max())
    )
