"""Cross-modal retrieval: whether the features of one modality find those of the same pair in another modality."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def cross_modal_retrieval(one: NDArray[Any], other: NDArray[Any], ks: Sequence[int] = (1, 5)) -> dict[str, float]:
    """Find each row's own partner among all rows of the other modality, by cosine similarity.

    The features of each modality are centred on their own mean: features of two modalities lie in two narrow cones,
    and the angle between the cones would hide the angles within them (Liang et al. 2022, "Mind the gap").

    Args:
        one: features `[N, D]` of the queries; at least 3 rows, at most some thousands (all N² similarities are in
            memory at once).
        other: features `[N, D]` that are searched; row i is the partner of query i.
        ks: numbers k of most similar rows among which the partner may be.

    Returns:
        For each k: `recall@k`, the share of rows whose partner is among the k most similar, and `chance@k`, the same
        share when guessing; and `candidates`, N.
    """
    from sklearn.metrics import top_k_accuracy_score
    from sklearn.metrics.pairwise import cosine_similarity

    candidates = len(one)
    similarities = cosine_similarity(one - one.mean(axis=0), other - other.mean(axis=0))
    found: dict[str, float] = {}
    for k in ks:
        is_certain = k >= candidates
        recall = 1.0 if is_certain else top_k_accuracy_score(np.arange(candidates), similarities, k=k)
        found |= {f"recall@{k}": float(recall), f"chance@{k}": min(1.0, k / candidates)}
    return found | {"candidates": float(candidates)}
