"""The light decoder: one modality's visible latents to the pixels of its patches."""

import torch
from torch import Tensor, nn

from fusmae.models.attention import LAYER_NORM, self_attention_block
from fusmae.models.initialise import TOKEN_STD, initialise
from fusmae.models.tokens import sincos_positions


class Decoder(nn.Module):
    """Predict patches of one modality.

    Args:
        latent_dim: width of the encoder.
        grid_side: number of patches along a tile's side.
        patch_values: number of values in a patch, C·P·P.
        dim: width D of the decoder.
        depth: number of self-attention blocks.
        num_heads: number of attention heads.
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

        The result of self-attention depends on the tokens' position embeddings, not on their order. So tokens stay in
        the drawn order: un-shuffling is not needed, and patches that are not decoded are simply left out.

        Args:
            latent: visible latents `[B, L_vis, latent_dim]`.
            ids: patch indices `[B, L_dec]`: those of the latents, then those to fill with the mask token.

        Returns:
            `[B, L_dec, C·P·P]`.
        """
        visible = self.embed(latent)
        hidden = self.mask_token.expand(ids.shape[0], ids.shape[1] - latent.shape[1], -1)
        # Positions are added again, because without them all mask tokens would be the same.
        tokens = torch.cat([visible, hidden], dim=1) + self.positions[ids]
        for block in self.blocks:
            tokens = block(tokens)
        pred: Tensor = self.head(self.norm(tokens))
        return pred
