"""Decodes tokens and pixels to a map of 10 m: patches alone are too coarse for it.

    outputs of up to 4 blocks, tokens [B, L, D] per modality        normalised tiles [B, C, H, W] per modality
      → one layer norm per block, one linear layer per modality       → two 3×3 convolutions per modality
      → mean over the modalities that are present                     → mean over the modalities that are present
      → grid of patches [B, W/2, g, g], bilinear to [B, W/2, H, W]    → [B, W/2, H, W]
                              └──────────── side by side: [B, W, H, W] ────────────┘
                                  → 3×3 convolution → 1×1 convolution → [B, K, h, w]

The tokens say what lies there, from the whole tile and both sensors; the pixels say where exactly it ends. A missing
modality never enters a mean. benchmarks/dense_heads.py compares this head with simpler ones.
"""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusmae.models.architecture import Architecture
from fusmae.models.attention import LAYER_NORM, initialise

_NUM_BLOCKS = 4
_LEAST_WIDTH = 32


def blocks_for(depth: int) -> tuple[int, ...]:
    """Numbers of the blocks whose outputs a dense head reads: up to four, evenly spread, the last one among them."""
    return tuple(sorted({math.ceil(depth * (part + 1) / _NUM_BLOCKS) - 1 for part in range(_NUM_BLOCKS)}))


class DenseHead(nn.Module):
    """Outputs of an encoder's blocks, and the tiles that it saw, to K numbers per pixel of a map.

    `map_px` is the side of the map in pixels; `architecture` is that of the encoder.
    """

    def __init__(self, architecture: Architecture, map_px: int, num_outputs: int) -> None:
        super().__init__()
        dim, self.blocks = architecture.dim, blocks_for(architecture.depth)
        self.map_px, self.tile_px = map_px, architecture.tile_px
        self.grid_side = architecture.tile_px // architecture.patch_px
        half = max(_LEAST_WIDTH, dim // 8) // 2
        self.norms = nn.ModuleList(LAYER_NORM(dim) for _ in self.blocks)
        self.project = nn.ModuleDict({name: nn.Linear(dim * len(self.blocks), half) for name in architecture.in_chans})
        self.pixels = nn.ModuleDict(
            {
                name: nn.Sequential(_conv(bands, half), nn.ReLU(), _conv(half, half))
                for name, bands in architecture.in_chans.items()
            }
        )
        self.fuse = nn.Sequential(nn.ReLU(), _conv(2 * half, 2 * half), nn.ReLU())
        self.output = nn.Conv2d(2 * half, num_outputs, kernel_size=1)
        self.apply(initialise)

    def forward(
        self, outputs: Sequence[Mapping[str, Tensor]], tiles: Mapping[str, Tensor], present: Mapping[str, Tensor]
    ) -> Tensor:
        """A map `[B, K, h, w]`.

        Args:
            outputs: for each of `blocks` the tokens `[B, L, D]` by modality.
            tiles: normalised tiles `[B, C, H, W]` by modality.
            present: flags `[B]` bool by modality, true where a row has it; none for a modality that all rows have.
        """
        if present and self.training:  # otherwise absent pixels, possibly NaN, would enter the gradient
            tiles = {name: torch.where(present[name][:, None, None, None], tile, 0.0) for name, tile in tiles.items()}
        tokens = {name: torch.cat([norm(of[name]) for norm, of in zip(self.norms, outputs, strict=True)], dim=2)
                  for name in tiles}  # fmt: skip
        grid = _mean_of({name: self.project[name](own) for name, own in tokens.items()}, present)
        grid = grid.transpose(1, 2).reshape(grid.shape[0], -1, self.grid_side, self.grid_side)
        side = (self.tile_px, self.tile_px)
        coarse = F.interpolate(grid, size=side, mode="bilinear", align_corners=False)
        fine = _mean_of({name: self.pixels[name](tile) for name, tile in tiles.items()}, present)
        found: Tensor = self.output(self.fuse(torch.cat([coarse, fine], dim=1)))
        if self.map_px == self.tile_px:
            return found
        return F.interpolate(found, size=(self.map_px, self.map_px), mode="bilinear", align_corners=False)


def _conv(num_in: int, num_out: int) -> nn.Conv2d:
    # Zeros beyond the edge are the bands' means.
    return nn.Conv2d(num_in, num_out, kernel_size=3, padding=1)


def _mean_of(parts: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
    """Mean `[B, …]` of the modalities that a row has; what a row lacks may hold anything."""
    if not present:
        return torch.stack(list(parts.values())).mean(dim=0)
    first = next(iter(parts.values()))
    flags = {name: present[name].reshape(-1, *[1] * (first.ndim - 1)) for name in parts}
    total = torch.stack([torch.where(flags[name], part, 0.0) for name, part in parts.items()]).sum(dim=0)
    count = torch.stack([flag.to(first.dtype) for flag in flags.values()]).sum(dim=0).clamp(min=1)
    return total / count
