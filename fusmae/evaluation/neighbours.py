"""Nearest neighbours: what features know without any training on top."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def neighbour_probabilities(
    train_features: NDArray[Any], train_labels: NDArray[Any], features: NDArray[Any], k: int = 20
) -> NDArray[Any]:
    """Each class's share among a row's nearest labelled rows, the nearer ones counting more.

    Neighbours are found by cosine distance, and weigh as its inverse: that needs no temperature, which would have to
    suit features of every model.

    Args:
        train_features: `[N, D]`.
        train_labels: `[N, K]` 0 or 1; one-hot where there is one class a row.
        features: `[M, D]`.
        k: neighbours; all N if there are fewer.

    Returns:
        `[M, K]` in 0..1.
    """
    from sklearn.neighbors import KNeighborsRegressor

    # The regressor's weighted mean of labels is the probability, for one class a row as well as for several.
    neighbours = KNeighborsRegressor(min(k, len(train_labels)), weights="distance", metric="cosine", algorithm="brute")
    neighbours.fit(train_features, train_labels.astype(np.float64))
    return np.asarray(neighbours.predict(features)).clip(0, 1)
