"""Measures of an encoder that need no labels: reconstruction against plain filling, and cross-modal retrieval."""

from collections.abc import Mapping, Sequence
from itertools import permutations

import torch

from fusmae.data.datamodule import PairDataModule
from fusmae.evaluation.features import SplitFeatures
from fusmae.evaluation.fills import FillErrors, reconstruction_errors, target_band_means
from fusmae.evaluation.retrieval import cross_modal_retrieval
from fusmae.models.fusmae import FusMAE
from fusmae.models.preprocess import Preprocess

_MAX_TRAIN_PAIRS = 2048
"""Number of train pairs that suffices for the mean of each band."""


@torch.no_grad()
def reconstruction(
    model: FusMAE, preprocess: Preprocess, data: PairDataModule, device: torch.device
) -> dict[str, dict[str, float]]:
    """Errors on removed patches of test, by modality, filled with the model, each band's mean, or the nearest patch.

    Args:
        model: the model, in eval mode.
        preprocess: preprocessing of the model's pixels.
        data: pairs, whose draws give each test pair its masks.
        device: device to run on.
    """
    model.to(device)
    preprocess.to(device)
    train = range(0, len(data.reader("train")), -(-len(data.reader("train")) // _MAX_TRAIN_PAIRS))
    means = target_band_means(
        model, (_tiles(preprocess, batch.pixels, device) for batch in data.batches("train", train))
    )
    total: dict[str, FillErrors] = {}
    for batch in data.batches("test", range(len(data.reader("test")))):
        noise = {name: values.to(device) for name, values in batch.noise.items()}
        found = reconstruction_errors(model, _tiles(preprocess, batch.pixels, device), noise, means)
        total = {name: total[name] + errors if name in total else errors for name, errors in found.items()}
    return {name: errors.means for name, errors in total.items()}


def _tiles(preprocess: Preprocess, pixels: Mapping[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    wanted = {item.name for item in preprocess.inputs}
    tiles: dict[str, torch.Tensor] = preprocess(
        {name: array.to(device) for name, array in pixels.items() if name in wanted}
    )
    return tiles


def retrieval(features: SplitFeatures, modalities: Sequence[str]) -> dict[str, dict[str, float]]:
    """Scores by direction for finding a test tile's partner in the other modality, each encoded alone."""
    return {
        f"{one} → {other}": cross_modal_retrieval(features.test[one], features.test[other])
        for one, other in permutations(modalities, 2)
        if one in features.test and other in features.test
    }
