"""Cross-modal retrieval: does one sensor's view of a place find the other's?"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def cross_modal_retrieval(one: NDArray[Any], other: NDArray[Any], ks: Sequence[int] = (1, 5)) -> dict[str, float]:
    """Find each row's own partner among all rows of the other sensor, by cosine similarity.

    Each side is centred on its own mean: features of two sensors lie in two narrow cones, and the angle between the
    cones would drown the angles within them (Liang et al. 2022, "Mind the gap").

    Args:
        one: `[N, D]`, what is looked for with; at least 3 rows, at most some thousands (all N² similarities are held).
        other: `[N, D]`, what is searched; row by row the partners.
        ks: how many answers are looked at.

    Returns:
        By k: `recall@k`, the share of rows whose partner is among the k most similar, and `chance@k`, what guessing
        gives; `candidates`: N.
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
