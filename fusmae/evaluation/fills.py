"""Baselines of reconstruction: ways to fill a removed patch without a model."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from fusmae.models.fusmae import FusMAE, Reconstruction
from fusmae.models.targets import patch_moments
from fusmae.models.tokens import patchify, select


@dataclass(frozen=True)
class FillErrors:
    """Errors on the removed patches of some tiles; the errors of other tiles may be added with `+`.

    Attributes:
        sums: sums of the patches' mean squared errors, by way of filling: `model`, `band mean`, `nearest`.
        num_removed: number of removed patches.
    """

    sums: Mapping[str, float]
    num_removed: int

    def __add__(self, other: "FillErrors") -> "FillErrors":
        sums = {name: value + other.sums[name] for name, value in self.sums.items()}
        return FillErrors(sums, self.num_removed + other.num_removed)

    @property
    def means(self) -> dict[str, float]:
        """Mean squared error by way of filling, defined as in `reconstruction_loss`; 0 if nothing was removed."""
        return {name: value / max(1, self.num_removed) for name, value in self.sums.items()}


@torch.no_grad()
def target_band_means(model: FusMAE, batches: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The best constant per band: the mean of the model's targets.

    Args:
        model: model that defines how targets are normalised.
        batches: batches of the training split; each has normalised tiles `[B, C, H, W]` by modality.

    Returns:
        Means `[C]`, float32, by modality.
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
) -> dict[str, FillErrors]:
    """Errors of the model's reconstruction, and of two ways of filling that need no model.

    All three are measured on every removed patch, in the units of the model's targets. If targets are normalised per
    patch, all three are implicitly given the true patch's mean and deviation: `nearest` takes the visible patch that
    is nearest in the grid, normalised by that patch's own mean and deviation.

    Args:
        model: pretrained model; all removed patches are decoded, whatever its `decode_fraction`.
        tiles: normalised tiles `[B, C, H, W]` by modality.
        noise: uniform noise `[B, L]` by modality, from which the model draws its masks.
        band_means: means of the targets' bands, from `target_band_means`.

    Returns:
        Errors by modality.
    """
    with _decoding_all(model):
        found: dict[str, Reconstruction] = model(tiles, noise)
    errors = {}
    for name, reconstruction in found.items():
        removed = reconstruction.mask.bool()
        constant = band_means[name].to(tiles[name].device).repeat_interleave(model.patch_px**2)
        guesses = {"model": reconstruction.pred.float(), "band mean": constant, "nearest": _nearest(reconstruction)}
        sums = {
            way: float((guess - reconstruction.target).square().mean(dim=-1)[removed].double().sum())
            for way, guess in guesses.items()
        }
        errors[name] = FillErrors(sums, int(removed.sum()))
    return errors


@contextmanager
def _decoding_all(model: FusMAE) -> Iterator[None]:
    fraction, model.decode_fraction = model.decode_fraction, 1.0
    try:
        yield
    finally:
        model.decode_fraction = fraction


def _nearest(reconstruction: Reconstruction) -> Tensor:
    """The visible patch nearest to each patch (of equally near ones, that with the lowest index): `[B, L, C·P·P]`."""
    ids = reconstruction.ids
    # Every row has the same number of visible patches, and they come first.
    visible = ids[:, : int((reconstruction.mask[0] == 0).sum())]
    num_patches = ids.shape[1]
    places = torch.arange(num_patches, device=ids.device)
    side = round(num_patches**0.5)
    rows, columns = places // side, places % side
    distances = (rows[:, None] - rows).square() + (columns[:, None] - columns).square()
    # One integer per couple of places, which orders by distance, then by index.
    ranks = distances * num_patches + places
    return select(reconstruction.target, ranks[ids[:, :, None], visible[:, None, :]].argmin(dim=-1))
