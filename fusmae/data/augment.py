"""Flips, quarter turns and mild crops, the same for every modality of a pair and for its map."""

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


def draw_geometry(
    randoms: Iterable[np.random.Generator], *, flip: bool, turn: bool, min_crop: float
) -> NDArray[np.float32]:
    """Draw a random flip, turn and crop for each pair, from one generator per pair.

    `flip` mirrors half of the draws left to right, `turn` turns draws by 0, 90, 180 or 270 degrees, and `min_crop` is
    the smallest side of the crop, as a share of the tile's side; 1 means no crop.

    Returns:
        `[B, 2, 3]` affine maps from output to input coordinates, both in -1..1.
    """
    # All numbers are drawn whatever the switches are, so that a switch does not change the other draws.
    draws = [(random.random(), random.integers(4), random.random(), *random.random(2)) for random in randoms]
    mirrored, quarter_turns, side, x, y = np.array(draws).T
    scale = 1 - (1 - min_crop) * side
    angle = quarter_turns * (np.pi / 2 if turn else 0)
    cos, sin = np.round(np.cos(angle)) * scale, np.round(np.sin(angle)) * scale
    mirror = np.where(flip & (mirrored < 0.5), -1, 1)
    columns = [cos * mirror, -sin, (1 - scale) * (2 * x - 1), sin * mirror, cos, (1 - scale) * (2 * y - 1)]
    return np.stack(columns, axis=1).reshape(-1, 2, 3).astype(np.float32)


def apply_to_maps(maps: Tensor, geometry: Tensor) -> Tensor:
    """Move maps `[B, h, w]` as `apply_geometry` moves their tiles; each pixel takes the nearest one, so none are mixed.

    The type stays as it is; a pixel beyond the edge takes the one at the edge.
    """
    size = (len(maps), 1, *maps.shape[1:])
    with torch.autocast(maps.device.type, enabled=False):
        grid = F.affine_grid(geometry, list(size), align_corners=False)
        moved = F.grid_sample(maps[:, None].float(), grid, mode="nearest", padding_mode="border", align_corners=False)
    return moved[:, 0].to(maps.dtype)


def apply_geometry(tiles: dict[str, Tensor], geometry: Tensor) -> dict[str, Tensor]:
    """Resample tiles `[B, C, H, W]` by modality bilinearly, on the device that they are on.

    `geometry` are affine maps `[B, 2, 3]` from `draw_geometry`.
    """
    grids: dict[torch.Size, Tensor] = {}
    moved = {}
    for key, tile in tiles.items():
        batch, _, height, width = tile.shape
        size = torch.Size((batch, 1, height, width))
        # Not in bf16: it rounds coordinates to about a tenth of a pixel.
        with torch.autocast(tile.device.type, enabled=False):
            if size not in grids:
                grids[size] = F.affine_grid(geometry, list(size), align_corners=False)
            moved[key] = F.grid_sample(tile, grids[size], mode="bilinear", padding_mode="border", align_corners=False)
    return moved
