"""The light decoder: one modality's visible latents to the pixels of its patches."""

import torch
from torch import Tensor, nn

from fusmae.models.attention import LAYER_NORM, self_attention_block
from fusmae.models.initialise import TOKEN_STD, initialise
from fusmae.models.tokens import sincos_positions


class Decoder(nn.Module):
    """Predict patches of one modality.

    Args:
        latent_dim: the encoder's width.
        grid_side: patches along a tile's side.
        patch_values: values in a patch, C·P·P.
        dim: the decoder's own width D.
        depth: self-attention blocks.
        num_heads: attention heads.
    """

    positions: Tensor

    def __init__(
        self, *, latent_dim: int, grid_side: int, patch_values: int, dim: int, depth: int, num_heads: int
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(latent_dim, dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.register_buffer("positions", sincos_positions(grid_side, dim), persistent=False)
        self.blocks = nn.ModuleList([self_attention_block(dim, num_heads) for _ in range(depth)])
        self.norm = LAYER_NORM(dim)
        self.head = nn.Linear(dim, patch_values)
        self.apply(initialise)
        nn.init.normal_(self.mask_token, std=TOKEN_STD)

    def forward(self, latent: Tensor, ids: Tensor) -> Tensor:
        """Predict the patches `ids`.

        Self-attention doesn't mind the order of tokens, only their positions: they stay in the drawn
        order, which spares the un-shuffling and leaves out what is not decoded.

        Args:
            latent: `[B, L_vis, latent_dim]`.
            ids: `[B, L_dec]` patch indices: those of the latents, then those to fill with the mask token.

        Returns:
            `[B, L_dec, C·P·P]`.
        """
        visible = self.embed(latent)
        hidden = self.mask_token.expand(ids.shape[0], ids.shape[1] - latent.shape[1], -1)
        # Positions again: without them masked tokens are all the same.
        tokens = torch.cat([visible, hidden], dim=1) + self.positions[ids]
        for block in self.blocks:
            tokens = block(tokens)
        pred: Tensor = self.head(self.norm(tokens))
        return pred
