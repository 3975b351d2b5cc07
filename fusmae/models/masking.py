"""Which patches the encoder doesn't see."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Strategy = Literal["independent", "consistent"]
"""independent: each modality draws its own mask. consistent: all hide the same patches."""


@dataclass(frozen=True)
class Mask:
    """Which patches of one modality are removed, row by row.

    Attributes:
        ids_keep: `[B, L_vis]` indices of the visible patches, in the order that the encoder gets them.
        ids_restore: `[B, L]` each patch's rank in the drawn order; the visible ones rank first.
        mask: `[B, L]` float32, 1 = removed, 0 = visible.
    """

    ids_keep: Tensor
    ids_restore: Tensor
    mask: Tensor

    @property
    def ids_shuffle(self) -> Tensor:
        """`[B, L]` patch indices in the drawn order: the visible ones first, then the removed ones."""
        return self.ids_restore.argsort(dim=1)


def num_visible(num_patches: int, mask_ratio: float) -> int:
    """How many of L patches stay: L − round(L · mask_ratio), at least 1."""
    return max(1, num_patches - round(num_patches * mask_ratio))


def _mask_from_noise(noise: Tensor, mask_ratio: float) -> Mask:
    """Keep the patches with the lowest noise `[B, L]`."""
    visible = num_visible(noise.shape[1], mask_ratio)
    # Stable, so that a tie in the noise gives the same mask on every device.
    ids_shuffle = noise.argsort(dim=1, stable=True)
    ids_restore = ids_shuffle.argsort(dim=1)
    return Mask(
        ids_keep=ids_shuffle[:, :visible],
        ids_restore=ids_restore,
        mask=(ids_restore >= visible).to(torch.float32),
    )


def draw_masks(noise: dict[str, Tensor], mask_ratio: Mapping[str, float], strategy: Strategy) -> dict[str, Mask]:
    """Turn noise into one mask a modality.

    Args:
        noise: `[B, L]` uniform noise by modality; the lowest values stay visible.
        mask_ratio: share of patches removed, by modality.
        strategy: with `consistent` the first modality's noise serves all; where ratios differ,
            the smaller visible set lies within the bigger.

    Returns:
        A mask for each modality in `noise`, in its order.

    Raises:
        ValueError: `consistent` over modalities with different numbers of patches.
    """
    if strategy == "independent":
        return {name: _mask_from_noise(values, mask_ratio[name]) for name, values in noise.items()}
    shapes = {name: tuple(values.shape) for name, values in noise.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"consistent masks need the same patches in every modality, got noise of {shapes}")
    shared = next(iter(noise.values()))
    return {name: _mask_from_noise(shared, mask_ratio[name]) for name in noise}
