"""Measures of an encoder that need no labels: reconstruction against plain filling, and cross-modal retrieval."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import top_k_accuracy_score
from sklearn.metrics.pairwise import cosine_similarity
from torch import Tensor

from fusmae.data.datamodule import Batch, PairDataModule
from fusmae.models.fusmae import FusMAE, Reconstruction
from fusmae.models.preprocess import Preprocess
from fusmae.models.targets import patch_moments
from fusmae.models.tokens import patchify, select
from fusmae.training.checkpoint import Checkpoint

FILLS = ("model", "band mean", "nearest")
"""Ways of filling removed patches."""

_MAX_TRAIN_PAIRS = 2048
"""Number of train pairs that suffices for the mean of each band."""


@torch.no_grad()
def reconstruction(checkpoint: Checkpoint, data: PairDataModule, device: torch.device) -> dict[str, dict[str, float]]:
    """Errors on removed patches of test, by modality, filled with the model, each band's mean, or the nearest patch.

    The draws of `data` give each test pair its masks.
    """
    model, preprocess = checkpoint.autoencoder().to(device), Preprocess(checkpoint.preprocessing).to(device)
    num_train, modalities = len(data.reader("train")), checkpoint.preprocessing.modalities

    def tiles_of(batch: Batch) -> dict[str, Tensor]:
        pixels = {name: array.to(device) for name, array in batch.only(modalities).items()}
        return preprocess.forward(pixels)

    train = range(0, num_train, -(-num_train // _MAX_TRAIN_PAIRS))
    means = target_band_means(model, map(tiles_of, data.batches("train", train)))
    total: dict[str, NDArray[np.float64]] = {}
    for batch in data.batches("test", range(len(data.reader("test")))):
        noise = {name: values.to(device) for name, values in batch.noise.items()}
        for name, sums in reconstruction_errors(model, tiles_of(batch), noise, means).items():
            total[name] = total.get(name, 0.0) + sums
    return {name: mean_errors(sums) for name, sums in total.items()}


@torch.no_grad()
def target_band_means(model: FusMAE, batches: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The best constant per band: the mean `[C]` of the model's targets, float32, by modality.

    `batches` are those of the training split; each has normalised tiles `[B, C, H, W]` by modality.
    """
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    for tiles in batches:
        for name, tile in tiles.items():
            patches = patchify(tile.float(), model.patch_px)
            mean, std = patch_moments(patches, model.runs[name])
            by_band = ((patches - mean) / std).double().reshape(*patches.shape[:2], tile.shape[1], -1)
            sums[name] = sums.get(name, 0) + by_band.sum(dim=(0, 1, 3))
            counts[name] = counts.get(name, 0) + by_band[:, :, 0].numel()
    return {name: (values / counts[name]).float() for name, values in sums.items()}


@torch.no_grad()
def reconstruction_errors(
    model: FusMAE, tiles: dict[str, Tensor], noise: dict[str, Tensor], band_means: Mapping[str, Tensor]
) -> dict[str, NDArray[np.float64]]:
    """Errors of the model's reconstruction, and of two ways of filling that need no model.

    All three are measured on every removed patch, in the units of the model's targets. If targets are normalised per
    patch, all three are implicitly given the true patch's mean and deviation: `nearest` takes the visible patch that
    is nearest in the grid, normalised by that patch's own mean and deviation.

    Tiles `[B, C, H, W]` are normalised; the model draws its masks from the uniform noise `[B, L]`. `band_means` are
    from `target_band_means`.

    Returns:
        By modality, sums `[4]` over the removed patches: of their mean squared errors in the order of `FILLS`, then
        their number. Those of several batches may be added.
    """
    errors: dict[str, NDArray[np.float64]] = {}
    found: dict[str, Reconstruction] = model(tiles, model.draw_masks(tiles, noise), decode_fraction=1.0)
    for name, reconstruction in found.items():
        removed = reconstruction.mask.bool()
        constant = band_means[name].to(tiles[name].device).repeat_interleave(model.patch_px**2)
        guesses = (reconstruction.pred.float(), constant, _nearest(reconstruction))
        squares = [(guess - reconstruction.target).square().mean(dim=-1)[removed] for guess in guesses]
        errors[name] = np.array([*(float(found.double().sum()) for found in squares), float(removed.sum())])
    return errors


def mean_errors(sums: NDArray[np.float64]) -> dict[str, float]:
    """Mean squared error by way of filling, defined as in `reconstruction_loss`; 0 if nothing was removed."""
    return dict(zip(FILLS, (sums[:-1] / max(1, sums[-1])).tolist(), strict=True))


def _nearest(reconstruction: Reconstruction) -> Tensor:
    """The visible patch nearest to each patch (of equally near ones, that with the lowest index): `[B, L, C·P·P]`."""
    ids = reconstruction.ids
    # Every row has the same number of visible patches, and they come first.
    visible, num_patches = ids[:, : int((reconstruction.mask[0] == 0).sum())], ids.shape[1]
    places, side = torch.arange(num_patches, device=ids.device), round(num_patches**0.5)
    rows, columns = places // side, places % side
    distances = (rows[:, None] - rows).square() + (columns[:, None] - columns).square()
    # One integer per couple of places, which orders by distance, then by index.
    ranks = distances * num_patches + places
    return select(reconstruction.target, ranks[ids[:, :, None], visible[:, None, :]].argmin(dim=-1))


def retrieval(features: Mapping[str, NDArray[Any]], modalities: Sequence[str]) -> dict[str, dict[str, float]]:
    """Scores by direction for finding a tile's partner in the other modality, each encoded alone.

    `features` are `[N, D]` by condition.
    """
    # A readout with a part per modality leaves that of an absent one zero: without it, two modalities' features lie in
    # the same dimensions and can be compared.
    own = {name: features[name][:, features[name].any(axis=0)] for name in modalities if name in features}
    return {f"{one} → {other}": cross_modal_retrieval(own[one], own[other]) for one, other in permutations(own, 2)}


def cross_modal_retrieval(one: NDArray[Any], other: NDArray[Any]) -> dict[str, float]:
    """Find each row's own partner among all rows of the other modality, by cosine similarity.

    The features of each modality are centred on their own mean: features of two modalities lie in two narrow cones,
    and the angle between the cones would hide the angles within them (Liang et al. 2022, "Mind the gap"). There are at
    least 3 rows and at most some thousands, because all N² similarities are in memory at once.

    Returns:
        For k of 1 and of 5: `recall@k`, the share of rows whose partner is among the k most similar, and `chance@k`,
        the same share when guessing; and `candidates`, N.
    """
    candidates = len(one)
    similarities = cosine_similarity(one - one.mean(axis=0), other - other.mean(axis=0))
    found: dict[str, float] = {}
    for k in (1, 5):
        recall = top_k_accuracy_score(np.arange(candidates), similarities, k=k) if k < candidates else 1.0
        found |= {f"recall@{k}": float(recall), f"chance@{k}": min(1.0, k / candidates)}
    return found | {"candidates": float(candidates)}
