"""Masks: which patches are removed from the encoder's input."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fusmae.config.training import Masking


@dataclass(frozen=True)
class Mask:
    """Which patches of one modality are removed, row by row."""

    ids: Tensor  # patch indices `[B, L]` in the drawn order: the visible ones first, then the removed ones
    num_visible: int  # number L_vis of visible patches in each row

    @property
    def ids_keep(self) -> Tensor:
        """Indices `[B, L_vis]` of the visible patches, in the order in which the encoder gets them."""
        return self.ids[:, : self.num_visible]

    @property
    def mask(self) -> Tensor:
        """Float32 `[B, L]` over the grid: 1 = removed, 0 = visible."""
        return torch.ones(self.ids.shape, device=self.ids.device).scatter(1, self.ids_keep, 0.0)

    def first(self, fraction: float) -> Tensor:
        """Indices `[B, L_dec]`: the visible patches, then the first `fraction` of the removed ones, at least one."""
        removed = self.ids.shape[1] - self.num_visible
        return self.ids[:, : self.num_visible + min(removed, max(1, round(removed * fraction)))]


def _mask_from_noise(noise: Tensor, mask_ratio: float) -> Mask:
    """Mask that keeps the patches with the lowest noise `[B, L]`: L − round(L · mask_ratio) of them, at least 1."""
    num_patches = noise.shape[1]
    # The sort is stable, so that equal noise values give the same mask on every device.
    return Mask(noise.argsort(dim=1, stable=True), max(1, num_patches - round(num_patches * mask_ratio)))


def draw_masks(noise: dict[str, Tensor], mask_ratio: Mapping[str, float], masking: Masking) -> dict[str, Mask]:
    """Turn uniform noise `[B, L]` by modality into one mask each: patches with the lowest values stay visible.

    `mask_ratio` is the share of patches removed, by modality. With `consistent` the first modality's noise is used for
    all; where ratios differ, the smaller visible set is a subset of the larger one.

    Raises:
        ValueError: masking is `consistent` and modalities have different numbers of patches.
    """
    if masking == "independent":
        return {name: _mask_from_noise(values, mask_ratio[name]) for name, values in noise.items()}
    shapes = {name: tuple(values.shape) for name, values in noise.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"consistent masks need the same patches in every modality, got noise of {shapes}")
    shared = next(iter(noise.values()))
    return {name: _mask_from_noise(shared, mask_ratio[name]) for name in noise}
