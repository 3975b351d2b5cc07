"""Masks: which patches are removed from the encoder's input."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fusmae.config.training import Masking


@dataclass(frozen=True)
class Mask:
    """Which patches of one modality are removed, row by row."""

    ids_keep: Tensor  # indices `[B, L_vis]` of the visible patches, in the order in which the encoder gets them
    ids_restore: Tensor  # rank `[B, L]` of each patch in the drawn order; the visible ones rank first
    mask: Tensor  # float32 `[B, L]`, 1 = removed, 0 = visible

    @property
    def ids_shuffle(self) -> Tensor:
        """Patch indices `[B, L]` in the drawn order: the visible ones first, then the removed ones."""
        return self.ids_restore.argsort(dim=1)


def num_visible(num_patches: int, mask_ratio: float) -> int:
    """Number of patches out of L that stay visible: L − round(L · mask_ratio), at least 1."""
    return max(1, num_patches - round(num_patches * mask_ratio))


def _mask_from_noise(noise: Tensor, mask_ratio: float) -> Mask:
    """Mask that keeps the patches with the lowest noise `[B, L]`."""
    visible = num_visible(noise.shape[1], mask_ratio)
    # The sort is stable, so that equal noise values give the same mask on every device.
    ids_shuffle = noise.argsort(dim=1, stable=True)
    ids_restore = ids_shuffle.argsort(dim=1)
    return Mask(
        ids_keep=ids_shuffle[:, :visible], ids_restore=ids_restore, mask=(ids_restore >= visible).to(torch.float32)
    )


def draw_masks(noise: dict[str, Tensor], mask_ratio: Mapping[str, float], masking: Masking) -> dict[str, Mask]:
    """Turn noise into one mask per modality.

    Args:
        noise: uniform noise `[B, L]` by modality; patches with the lowest values stay visible.
        mask_ratio: share of patches removed, by modality.
        masking: way of masking. With `consistent` the first modality's noise is used for all; where ratios
            differ, the smaller visible set is a subset of the larger one.

    Returns:
        A mask for each modality in `noise`, in its order.

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
