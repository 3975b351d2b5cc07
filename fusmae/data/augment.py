"""Flips, quarter turns and mild crops, the same for every modality of a pair."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


def draw_geometry(random: np.random.Generator, *, flip: bool, turn: bool, min_crop: float) -> NDArray[np.float32]:
    """Draw one pair's geometry.

    Args:
        random: the pair's own generator.
        flip: mirror left to right in half of the draws.
        turn: turn by 0, 90, 180 or 270 degrees.
        min_crop: smallest side of the crop, as a share of the tile's side; 1 is no crop.

    Returns:
        `[2, 3]` affine map from output to input coordinates, both in -1..1.
    """
    # Every draw is taken whatever the switches are, so that a switch changes its own effect only.
    mirrored, quarter_turns, side, x, y = random.random(), random.integers(4), random.random(), *random.random(2)
    scale = 1 - (1 - min_crop) * side
    angle = quarter_turns * np.pi / 2 if turn else 0.0
    cos, sin = np.round(np.cos(angle)), np.round(np.sin(angle))
    linear = np.array([[cos, -sin], [sin, cos]]) @ np.diag([-1.0 if flip and mirrored < 0.5 else 1.0, 1.0]) * scale
    offset = (1 - scale) * (2 * np.array([x, y]) - 1)
    return np.concatenate([linear, offset[:, None]], axis=1).astype(np.float32)


def apply_geometry(tiles: dict[str, Tensor], geometry: Tensor) -> dict[str, Tensor]:
    """Resample tiles, bilinear, on their own device.

    Args:
        tiles: `[B, C, H, W]` by modality.
        geometry: `[B, 2, 3]` as `draw_geometry` gives.
    """
    grids: dict[torch.Size, Tensor] = {}
    moved = {}
    for key, tile in tiles.items():
        batch, _, height, width = tile.shape
        size = torch.Size((batch, 1, height, width))
        # Not in bf16: its coordinates are a tenth of a pixel apart.
        with torch.autocast(tile.device.type, enabled=False):
            if size not in grids:
                grids[size] = F.affine_grid(geometry, list(size), align_corners=False)
            moved[key] = F.grid_sample(tile, grids[size], mode="bilinear", padding_mode="border", align_corners=False)
    return moved
