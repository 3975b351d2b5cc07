"""Measures an encoder through its embeddings: kNN and a probe learn from labelled pairs, and are scored on test."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.data.index import Split
from fusmae.data.shards import ShardReader
from fusmae.evaluation.neighbours import neighbour_answers
from fusmae.evaluation.probe import fit_probe

_BATCH = 16
KNN, PROBE = "knn", "probe"
Embed = Callable[[Mapping[str, NDArray[Any]], Sequence[str]], NDArray[np.float32]]
"""Embeddings `[B, D]` of pixels `[B, C, h, w]` by input name, of the modalities in a setting."""


def frozen_answers(
    embed: Embed,
    readers: Mapping[Split, ShardReader],
    settings: Sequence[Sequence[str]],
    *,
    neighbours: int,
    max_pairs: int,
) -> tuple[dict[tuple[str, str], NDArray[Any]], int]:
    """Answers `[N, K]` on labels of tiles of all test pairs by protocol and setting (`s1+s2`), and the number of bad
    numbers.

    Neighbours and probe learn from train, and the probe's strength is chosen on validation: from `max_pairs` of each at
    most, evenly spread over the split. There are no answers where train or test has no label. Numbers that are
    not finite are bad, and are replaced by 0. `readers` are of all splits.
    """
    rows = {split: reader.spread(len(reader) if split == "test" else max_pairs) for split, reader in readers.items()}
    labels = {split: np.asarray(readers[split].labels)[chosen] for split, chosen in rows.items()}
    if not (readers["train"].has_labels and readers["test"].has_labels):
        return {}, 0
    found: dict[tuple[str, str], NDArray[Any]] = {}
    num_bad = 0
    for setting in settings:
        features = {}
        for split, chosen in rows.items():
            batches = (readers[split].read(chosen[start : start + _BATCH]) for start in range(0, len(chosen), _BATCH))
            raw = np.concatenate([embed(pixels, setting) for pixels in batches])
            is_finite = np.isfinite(raw)
            num_bad += int((~is_finite).sum())
            features[split] = np.where(is_finite, raw, np.float32(0))
        name = "+".join(setting)
        known, asked = (features["train"], labels["train"]), features["test"]
        found[KNN, name] = neighbour_answers(*known, asked, k=neighbours)
        probe = fit_probe(*known, features["validation"], labels["validation"], readers["train"].task.of_tiles)
        found[PROBE, name] = probe.predict(asked)
    return found, num_bad
