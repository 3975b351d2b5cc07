"""Simulated clouds over optical tiles: conditions in which a second modality should help a model."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fusmae.data.randomness import Purpose, generators

_CLOUD_DN = 6000.0
"""Reflectance 0.6 in every band: a thick water cloud is white from blue to near infrared, and reflects 0.5 to 0.8. In
short-wave infrared real clouds are darker. The offset of +1000 of newer Sentinel-2 products is not included."""

_CELLS = 5
"""Number of random values along a tile's side; clouds are about as large as a few of the distances between them."""

_EDGE = 0.4
"""Width of a cloud's edge, from clear to opaque, in standard deviations of the random field."""


def clouded(pixels: dict[str, Tensor], indices: Tensor, seed: int, share: float = 0.6) -> dict[str, Tensor]:
    """Put opaque clouds with soft edges over a part of each optical tile.

    A pair's clouds depend on the seed and the pair alone, not on the rest of the batch, and are the same at every
    resolution.

    Args:
        pixels: arrays `[B, C, h, w]` by input name, in physical units; arrays `s2_…` are DN. They are not changed.
        indices: positions `[B]` of the pairs in their split.
        seed: random seed of the clouds.
        share: share of a tile that is covered, between 0 and 1; the edges count as half covered.

    Returns:
        Arrays of the same names, shapes and number types, with clouds in `s2_…`.
    """
    optical = {name: array for name, array in pixels.items() if name.startswith("s2_")}
    if not optical:
        return dict(pixels)
    side = max(array.shape[-1] for array in optical.values())
    opacity = _opacity(indices, seed, share, side)
    covered = {}
    for name, array in optical.items():
        # Averaged by area, as a detector with coarser pixels does.
        part = F.interpolate(opacity, size=array.shape[-2:], mode="area").to(array.device)
        covered[name] = torch.lerp(array.float(), torch.full_like(part, _CLOUD_DN), part).to(array.dtype)
    return pixels | covered


def _opacity(indices: Tensor, seed: int, share: float, side: int) -> Tensor:
    """Opacity `[B, 1, side, side]`, 0 (clear) to 1, on the CPU, so that its bits don't depend on the model's device.

    Args:
        indices: positions `[B]` of the pairs in their split.
        seed: random seed of the clouds.
        share: share of a tile that is covered.
        side: height and width in pixels.
    """
    keys = ((0, index) for index in indices.tolist())
    grids = [random.standard_normal((1, _CELLS, _CELLS)) for random in generators(seed, Purpose.CLOUD, keys)]
    coarse = torch.from_numpy(np.stack(grids)).float()
    field = F.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=True).flatten(1)
    clear = min(side * side, max(1, round((1 - share) * side * side)))
    height = field - field.kthvalue(clear, dim=1, keepdim=True).values
    return (0.5 + height / (_EDGE * field.std(dim=1, keepdim=True))).clamp(0, 1).reshape(-1, 1, side, side)
