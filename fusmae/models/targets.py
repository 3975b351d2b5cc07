"""What the decoders should predict: patches of standardised pixels, normalised once more."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

TargetNorm = Literal["patch", "group", "band"]
"""patch: per patch over all its values (MAE). group: per patch and band group (as MAESTRO).
band: the band-standardised values as they are, without a patch term."""

VARIANCE_FLOOR = 1e-6


def normalised_runs(target_norm: TargetNorm, groups: Sequence[int], patch_px: int) -> tuple[int, ...]:
    """Lengths of the runs of values in a flat patch that are normalised together; empty for `band`.

    Args:
        target_norm: how targets are normalised.
        groups: bands of each group, in channel order.
        patch_px: the patch side P.
    """
    bands = {"patch": (sum(groups),), "group": tuple(groups), "band": ()}[target_norm]
    return tuple(count * patch_px * patch_px for count in bands)


def patch_moments(patches: Tensor, runs: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each patch, run by run.

    Args:
        patches: `[B, L, C·P·P]` float32.
        runs: from `normalised_runs`.

    Returns:
        mean and sqrt(unbiased variance + 1e-6), each broadcastable to `patches`; 0 and 1 without runs.
    """
    if not runs:
        return patches.new_zeros(()), patches.new_ones(())
    parts = torch.split(patches, list(runs), dim=-1)
    means = [part.mean(dim=-1, keepdim=True).expand_as(part) for part in parts]
    stds = [(part.var(dim=-1, keepdim=True) + VARIANCE_FLOOR).sqrt().expand_as(part) for part in parts]
    return torch.cat(means, dim=-1), torch.cat(stds, dim=-1)
