"""From tiles to tokens: patches, their positions and their embedding."""

from math import isqrt

import torch
from torch import Tensor, nn

USUAL_PATCH_PX = range(8, 25)


def patch_sides(tile_px: int) -> tuple[int, ...]:
    """Patch sides in pixels that divide a tile: the usual ones (8 to 24), or all above 1 if no usual one does."""
    divisors = [side for side in range(2, tile_px + 1) if tile_px % side == 0]
    return tuple(side for side in divisors if side in USUAL_PATCH_PX) or tuple(divisors)


def grid_side(tile_px: int, patch_px: int) -> int:
    """Number of patches along a tile's side.

    Raises:
        ValueError: `patch_px` does not divide `tile_px`.
    """
    if patch_px < 1 or tile_px % patch_px:
        works = ", ".join(map(str, patch_sides(tile_px)))
        raise ValueError(f"patches of {patch_px} px do not divide a tile of {tile_px} px; these do: {works}")
    return tile_px // patch_px


def patchify(tile: Tensor, patch_px: int) -> Tensor:
    """Cut a tile `[B, C, H, W]` into flat patches of P × P pixels, `[B, L, C·P·P]`.

    Patches are ordered row by row over the grid. The values of a patch are ordered by band, then row, then column (like
    a convolution's weights), so a group of bands is one contiguous run.
    """
    batch, bands, height, width = tile.shape
    rows, columns = grid_side(height, patch_px), grid_side(width, patch_px)
    cells = tile.reshape(batch, bands, rows, patch_px, columns, patch_px).permute(0, 2, 4, 1, 3, 5)
    return cells.reshape(batch, rows * columns, bands * patch_px * patch_px)


def unpatchify(patches: Tensor, patch_px: int) -> Tensor:
    """Undo `patchify` for a square tile: flat patches `[B, L, C·P·P]` to `[B, C, H, W]`; L is a square number."""
    batch, num_patches, width = patches.shape
    side, bands = isqrt(num_patches), width // (patch_px * patch_px)
    cells = patches.reshape(batch, side, side, bands, patch_px, patch_px).permute(0, 3, 1, 4, 2, 5)
    return cells.reshape(batch, bands, side * patch_px, side * patch_px)


def select(tokens: Tensor, ids: Tensor) -> Tensor:
    """Pick tokens `[B, L, D]` by index, row by row: `ids` `[B, K]` into the L tokens of the row give `[B, K, D]`."""
    return tokens.gather(1, ids.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def _sincos(coordinates: Tensor, dim: int) -> Tensor:
    """Sines then cosines of coordinates `[L]` at dim / 2 wavelengths: `[L, dim]`, float64."""
    exponents = torch.arange(dim // 2, dtype=torch.float64) / (dim // 2)
    angles = coordinates.double()[:, None] / 10_000**exponents
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def sincos_positions(grid_side: int, dim: int) -> Tensor:
    """Fixed 2-D sin-cos positions `[L, D]` as in MAE, float32: the first half of D is the column, the second the row.

    `grid_side` is the number of patches along a tile's side; positions are in `patchify`'s order.

    Raises:
        ValueError: D is not a multiple of 4.
    """
    if dim % 4:
        raise ValueError(f"2-D sin-cos positions need a width that is a multiple of 4, not {dim}")
    patches = torch.arange(grid_side * grid_side)
    rows, columns = patches // grid_side, patches % grid_side
    return torch.cat([_sincos(columns, dim // 2), _sincos(rows, dim // 2)], dim=1).float()


class PatchEmbed(nn.Module):
    """Turn one modality's tile into tokens: flat patches go through a linear layer, and their positions are added.

    Visible patches are picked before the embedding, so a removed patch costs nothing and can't influence the result.
    """

    positions: Tensor

    def __init__(self, in_chans: int, tile_px: int, patch_px: int, dim: int) -> None:
        super().__init__()
        self.in_chans, self.tile_px, self.patch_px = in_chans, tile_px, patch_px
        self.proj = nn.Linear(in_chans * patch_px * patch_px, dim)
        self.register_buffer("positions", sincos_positions(grid_side(tile_px, patch_px), dim), persistent=False)

    def forward(self, tile: Tensor, ids_keep: Tensor | None = None) -> Tensor:
        """Embed a tile's patches, or only the visible ones.

        Args:
            tile: pixels `[B, C, H, W]`.
            ids_keep: indices `[B, L_vis]` of the patches to embed, in that order; None for all.

        Returns:
            `[B, L_vis, D]`.

        Raises:
            ValueError: the tile's shape is not the one that the model was built for.
        """
        expected = (self.in_chans, self.tile_px, self.tile_px)
        if tuple(tile.shape[1:]) != expected:
            raise ValueError(f"a tile has shape {tuple(tile.shape[1:])} (bands, height, width), expected {expected}")
        patches = patchify(tile, self.patch_px)
        positions = self.positions
        if ids_keep is not None:
            patches, positions = select(patches, ids_keep), positions[ids_keep]
        tokens: Tensor = self.proj(patches)
        return tokens + positions
