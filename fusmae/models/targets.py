"""The decoders' targets: patches of standardised pixels, normalised once more."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fusmae.config.training import TargetNorm

VARIANCE_FLOOR = 1e-6


def normalised_runs(target_norm: TargetNorm, groups: Sequence[int], patch_px: int) -> tuple[int, ...]:
    """Lengths of the runs of values in a flat patch that are normalised together; empty for `band`.

    `groups` has the number of bands in each group, in channel order.
    """
    bands = {"patch": (sum(groups),), "group": tuple(groups), "band": ()}[target_norm]
    return tuple(count * patch_px * patch_px for count in bands)


def patch_moments(patches: Tensor, runs: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each patch `[B, L, C·P·P]`, float32, run by run.

    Returns:
        Mean and sqrt(unbiased variance + 1e-6), each broadcastable to `patches`; 0 and 1 if `runs` is empty.
    """
    if not runs:
        return patches.new_zeros(()), patches.new_ones(())
    parts = torch.split(patches, list(runs), dim=-1)
    moments = [_moments(part) for part in parts]
    if len(parts) == 1:
        return moments[0]
    means, stds = (
        torch.cat([moment.expand_as(part) for moment, part in zip(column, parts, strict=True)], dim=-1)
        for column in zip(*moments, strict=True)
    )
    return means, stds


def _moments(part: Tensor) -> tuple[Tensor, Tensor]:
    mean = part.mean(dim=-1, keepdim=True)
    # Not Tensor.var: on a CPU its single pass over the data takes several times as long as these two passes.
    deviation = torch.linalg.vector_norm(part - mean, dim=-1, keepdim=True)
    return mean, (deviation.square() / (part.shape[-1] - 1) + VARIANCE_FLOOR).sqrt()
