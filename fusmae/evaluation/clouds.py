"""Clouds over optical tiles: what a model of two sensors is for."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fusmae.data.randomness import Purpose, generators

_CLOUD_DN = 6000.0
"""Reflectance 0.6 in every band: a thick water cloud is white from blue to near infrared, and reflects 0.5 to 0.8. In
short-wave infrared real ones are darker. Counted without the +1000 of newer Sentinel-2 products."""

_CELLS = 5
"""Random numbers along a tile's side: a cloud is about as big as a few of their distances."""

_EDGE = 0.4
"""From clear to opaque, in standard deviations of the field."""


def clouded(pixels: dict[str, Tensor], indices: Tensor, seed: int, share: float = 0.6) -> dict[str, Tensor]:
    """Put an opaque cloud with soft edges over a part of each optical tile.

    It depends on the pair alone, not on what else is in the batch, and is the same at every resolution.

    Args:
        pixels: `[B, C, h, w]` by input name, in physical units; arrays `s2_…` are DN. They are left as they are.
        indices: `[B]` of the pairs in their split.
        seed: another one, other clouds.
        share: of a tile that is covered, between 0 and 1; an edge counts as half.

    Returns:
        The same arrays, number types and all, with `s2_…` clouded.
    """
    optical = {name: array for name, array in pixels.items() if name.startswith("s2_")}
    if not optical:
        return dict(pixels)
    side = max(array.shape[-1] for array in optical.values())
    opacity = _opacity(indices, seed, share, side)
    covered = {}
    for name, array in optical.items():
        # By area, as a coarser detector averages what it sees.
        part = F.interpolate(opacity, size=array.shape[-2:], mode="area").to(array.device)
        covered[name] = torch.lerp(array.float(), torch.full_like(part, _CLOUD_DN), part).to(array.dtype)
    return pixels | covered


def _opacity(indices: Tensor, seed: int, share: float, side: int) -> Tensor:
    """0 clear to 1 opaque: `[B, 1, side, side]`, on the CPU, where it has the same bits whatever runs the model."""
    keys = ((0, index) for index in indices.tolist())
    grids = [random.standard_normal((1, _CELLS, _CELLS)) for random in generators(seed, Purpose.CLOUD, keys)]
    coarse = torch.from_numpy(np.stack(grids)).float()
    field = F.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=True).flatten(1)
    clear = min(side * side, max(1, round((1 - share) * side * side)))
    height = field - field.kthvalue(clear, dim=1, keepdim=True).values
    return (0.5 + height / (_EDGE * field.std(dim=1, keepdim=True))).clamp(0, 1).reshape(-1, 1, side, side)
