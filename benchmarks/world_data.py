"""Load a synthetic world into memory."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusmae.data.index import Pair
from fusmae.data.pixels import stack_bands
from fusmae.modalities import BIGEARTHNET, BandStatistics, modality_inputs
from fusmae.models.preprocess import Preprocess, Preprocessing
from fusmae.sources.patches.places import PATCH_M
from fusmae.sources.synthetic.source import SyntheticSource


@dataclass(frozen=True)
class Data:
    """The world in memory.

    Attributes:
        tiles: tiles `[N, C, H, W]` float16 by modality, standardised with mean and deviation of the training split.
        means: mean of each band in physical units, `[N, C]`.
        stds: standard deviation of each band in physical units, `[N, C]`.
        labels: label vectors `[N, K]` of 0 and 1.
        split: name of each pair's split, `[N]`.
        scene: number of each pair's scene, `[N]`; pairs of one scene are alike, so intervals are over scenes.
        is_flagged: whether each pair is under cloud or snow, `[N]`.
    """

    tiles: dict[str, Tensor]
    means: NDArray[np.float32]
    stds: NDArray[np.float32]
    labels: NDArray[np.int64]
    split: NDArray[np.str_]
    scene: NDArray[np.int64]
    is_flagged: NDArray[np.bool_]

    def rows(self, split: str) -> NDArray[np.int64]:
        """Numbers of the rows that belong to a split."""
        return np.flatnonzero(self.split == split)


def load(source: SyntheticSource, raw: Path) -> Data:
    """Read every pair of the world."""
    pairs = source.pairs(raw)
    inputs = modality_inputs(BIGEARTHNET, PATCH_M)
    arrays: dict[str, list[NDArray[Any]]] = {item.name: [] for item in inputs}
    for pair in pairs:
        bands = source.read(raw, pair)
        for name, array in stack_bands(pair.key, bands, inputs).items():
            arrays[name].append(array)
    stacked = {name: np.stack(found) for name, found in arrays.items()}
    split = np.array([pair.split for pair in pairs])
    moments = [
        (values.mean(axis=(2, 3), dtype=np.float64), values.std(axis=(2, 3), dtype=np.float64))
        for values in stacked.values()
    ]
    return Data(
        tiles=_tiles(stacked, split == "train"),
        means=np.concatenate([mean for mean, _ in moments], axis=1).astype(np.float32),
        stds=np.concatenate([std for _, std in moments], axis=1).astype(np.float32),
        labels=np.array([[name in pair.labels for name in source.task.classes] for pair in pairs]).astype(np.int64),
        split=split,
        scene=np.unique([_scene(pair) for pair in pairs], return_inverse=True)[1],
        is_flagged=np.array([pair.is_cloudy or pair.is_snowy for pair in pairs]),
    )


def _scene(pair: Pair) -> str:
    return pair.key.rsplit("_", 2)[0]


def _tiles(stacked: dict[str, NDArray[Any]], is_train: NDArray[np.bool_]) -> dict[str, Tensor]:
    """Tiles by modality, standardised and resampled by the model's own preprocessing."""
    inputs = modality_inputs(BIGEARTHNET, PATCH_M)
    statistics: dict[str, dict[str, BandStatistics]] = {key: {} for key in BIGEARTHNET}
    for item in inputs:
        train = stacked[item.name][is_train]
        for channel, band in enumerate(item.bands):
            mean, std = (float(moment(train[:, channel], dtype=np.float64)) for moment in (np.mean, np.std))
            statistics[item.modality][band] = BandStatistics(mean=mean, std=std)
    preprocess = Preprocess(Preprocessing(inputs=inputs, statistics=statistics))
    parts: dict[str, list[Tensor]] = {key: [] for key in BIGEARTHNET}
    for start in range(0, len(is_train), 256):
        batch = {
            name: torch.from_numpy(values[start : start + 256].astype(np.float32)) for name, values in stacked.items()
        }
        for key, tiles in preprocess(batch).items():
            parts[key].append(tiles.half())
    return {key: torch.cat(found) for key, found in parts.items()}
