"""Fus-MAE (Chan-To-Hing and Veeravalli 2024): the masked autoencoder, its reconstructions and their loss.

Two modalities are drawn; there may be one, or more. L patches of P × P pixels, of which masks leave Ls and Lo visible.

     tile s1 [B, C, H, W]                tile s2 [B, C, H, W]     standardised, on the finest grid (preprocess.py)
              |                                   |
     patches [B, L, C·P·P]               patches [B, L, C·P·P]    ----------------------> targets, below
              |  the visible ones                 |               masking.py: independent, or the same for all
         [B, Ls, C·P·P]                      [B, Lo, C·P·P]
              |  linear, + positions              |
      tokens [B, Ls, D]                   tokens [B, Lo, D]       encoder.py
              |                                   |
              | <------ cross-attention --------> |               early fusion: s1 attends to s2 and s2 to s1, each
              |                                   |               added to its own tokens (XAttnEncoder)
              +-----------------+-----------------+
                                |                                 joined along the tokens, one MLP for all
                        [B, Ls + Lo, D]                           (without early fusion: one self-attention block)
                                |  CLS in front
                      [B, 1 + Ls + Lo, D]
                                |  depth - 1 self-attention blocks, norm
              +-----------------+-----------------+------> CLS [B, D], for heads (heads.py)
              |                                   |
     latents [B, Ls, D]                  latents [B, Lo, D]       both also for heads
              |                                   |
              | <------ cross-attention --------> |               feature fusion, then an MLP each (XAttnDecoder);
              |                                   |               without it the latents go on as they are
         [B, Ls, D]                          [B, Lo, D]
              |  linear to decoder_dim            |               a decoder per modality, from here on
              |  + mask tokens, + positions       |               tokens of the removed patches that are decoded
      [B, L_dec, decoder_dim]             [B, L_dec, decoder_dim]
              |  decoder_depth blocks, norm       |
              |  linear                           |
       pred [B, L_dec, C·P·P]              pred [B, L_dec, C·P·P]
              |                                   |
     target [B, L_dec, C·P·P]            target [B, L_dec, C·P·P] targets.py: normalised per patch, per patch and band
                                                                  group, or not at all
Loss: the mean squared error over removed patches only, per modality; training sums them.

- Patches are dropped before the embedding, so a removed patch costs nothing and can't leak.
- L_dec is L in MAE; with `decode_fraction` below 1, the visible patches and a share of the removed ones (CrossMAE).
- Tokens stay in the drawn order, visible first: positions say where a token lies, so nothing is un-shuffled.
- CLS joins after block 0, so early fusion changes the cross-attention and nothing else.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fusmae.models.architecture import Architecture
from fusmae.models.attention import LAYER_NORM, TOKEN_STD, XAttnDecoder, initialise, self_attention_block
from fusmae.models.encoder import Encoder
from fusmae.models.masking import Mask, draw_masks
from fusmae.models.targets import normalised_runs, patch_moments
from fusmae.models.tokens import grid_side, patchify, select, sincos_positions, unpatchify


@dataclass(frozen=True)
class Reconstruction:
    """Predicted patches of one modality and their targets.

    The visible patches come first, then the decoded removed ones, in the drawn order.
    """

    pred: Tensor  # predicted patches `[B, L_dec, C·P·P]`, values in `patchify`'s order
    target: Tensor  # normalised pixels `[B, L_dec, C·P·P]`, float32
    mask: Tensor  # float32 `[B, L_dec]`, 1 = removed (counted in the loss), 0 = visible
    ids: Tensor  # index `[B, L_dec]` of each patch in the grid


def reconstruction_loss(reconstruction: Reconstruction) -> Tensor:
    """Mean squared error of each removed patch, averaged over these patches: a float32 scalar, 0 if none is removed."""
    error = (reconstruction.pred.float() - reconstruction.target).square().mean(dim=-1)
    removed = torch.where(reconstruction.mask.bool(), error, 0.0)
    return removed.sum() / reconstruction.mask.sum().clamp(min=1.0)


class Decoder(nn.Module):
    """The light decoder of one modality with C `bands`: its visible latents to the pixels of its patches."""

    positions: Tensor

    def __init__(self, architecture: Architecture, bands: int) -> None:
        super().__init__()
        dim, patch_px = architecture.decoder_dim, architecture.patch_px
        self.embed = nn.Linear(architecture.dim, dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))
        side = grid_side(architecture.tile_px, patch_px)
        self.register_buffer("positions", sincos_positions(side, dim), persistent=False)
        self.blocks = nn.ModuleList(
            [self_attention_block(dim, architecture.decoder_num_heads) for _ in range(architecture.decoder_depth)]
        )
        self.norm = LAYER_NORM(dim)
        self.head = nn.Linear(dim, bands * patch_px * patch_px)
        self.apply(initialise)
        nn.init.normal_(self.mask_token, std=TOKEN_STD)

    def forward(self, latent: Tensor, ids: Tensor) -> Tensor:
        """Predict patches `[B, L_dec, C·P·P]` from the encoder's visible latents `[B, L_vis, D]`.

        `ids` `[B, L_dec]` are the patches of the latents, then those to fill with the mask token. The result of
        self-attention depends on the tokens' position embeddings, not on their order. So tokens stay in the drawn
        order: un-shuffling is not needed, and patches that are not decoded are simply left out.
        """
        visible = self.embed(latent)
        hidden = self.mask_token.expand(ids.shape[0], ids.shape[1] - latent.shape[1], -1)
        # Positions are added again, because without them all mask tokens would be the same.
        tokens = torch.cat([visible, hidden], dim=1) + self.positions[ids]
        for block in self.blocks:
            tokens = block(tokens)
        pred: Tensor = self.head(self.norm(tokens))
        return pred


class FusMAE(nn.Module):
    """A masked autoencoder over modalities that are fused by cross-attention.

    Attributes:
        runs: lengths of the runs of a flat patch that targets are normalised over, by modality.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        patch_px, in_chans = architecture.patch_px, architecture.in_chans
        self.architecture, self.patch_px = architecture, patch_px
        self.runs = {
            name: normalised_runs(architecture.target_norm, bands, patch_px)
            for name, bands in architecture.groups.items()
        }
        self.encoder = Encoder(architecture)
        self.latent_fusion = None
        if architecture.feature_fusion:
            self.latent_fusion = XAttnDecoder(tuple(in_chans), architecture.dim, architecture.num_heads)
            self.latent_fusion.apply(initialise)
        self.decoders = nn.ModuleDict({name: Decoder(architecture, bands) for name, bands in in_chans.items()})

    def draw_masks(self, tiles: Mapping[str, Tensor], noise: Mapping[str, Tensor]) -> dict[str, Mask]:
        """One mask for each modality in `tiles`, from uniform noise `[B, L]` by modality."""
        present = {name: noise[name] for name in self.encoder.in_chans if name in tiles}
        return draw_masks(present, self.architecture.mask_ratio, self.architecture.masking)

    def forward(
        self,
        tiles: dict[str, Tensor],
        masks: dict[str, Mask],
        decode_fraction: float | None = None,
        truth: dict[str, Tensor] | None = None,
    ) -> dict[str, Reconstruction]:
        """Encode the visible patches, and reconstruct the removed ones, of each modality in `tiles`.

        Args:
            tiles: normalised tiles `[B, C, H, W]` by modality.
            masks: a mask for each modality in `tiles`, from `draw_masks`.
            decode_fraction: share of the removed patches that is decoded; None for the architecture's.
            truth: tiles that targets are made from, where some bands are hidden in `tiles`; None for `tiles`.
        """
        latents = self.encoder(tiles, masks).tokens
        if self.latent_fusion is not None:
            latents = self.latent_fusion(latents)
        decode_fraction = self.architecture.decode_fraction if decode_fraction is None else decode_fraction
        reconstructions = {}
        for name, latent in latents.items():
            ids = masks[name].first(decode_fraction)
            pred, target = self.decoders[name](latent, ids), self._target(name, (truth or tiles)[name], ids)
            reconstructions[name] = Reconstruction(pred, target, masks[name].mask.gather(1, ids), ids)
        return reconstructions

    @torch.no_grad()
    def _target(self, name: str, tile: Tensor, ids: Tensor) -> Tensor:
        """The normalised patches `ids` of a tile `[B, C, H, W]`: `[B, L_dec, C·P·P]`, float32."""
        truth = select(patchify(tile.float(), self.patch_px), ids)
        mean, std = patch_moments(truth, self.runs[name])
        return (truth - mean) / std

    @torch.no_grad()
    def pixels(self, name: str, reconstruction: Reconstruction, tile: Tensor) -> Tensor:
        """Draw the reconstruction of modality `name` as a tile, for pictures; `tile` `[B, C, H, W]` is the true one.

        The target normalisation is undone with the true patch's own mean and standard deviation, as MAE does.

        Returns:
            Normalised pixels `[B, C, H, W]`, float32: visible patches from the true tile, decoded ones as
            predicted, NaN where a removed patch was not decoded.
        """
        patches = patchify(tile.float(), self.patch_px)
        truth = select(patches, reconstruction.ids)
        mean, std = patch_moments(truth, self.runs[name])
        predicted = reconstruction.pred.float() * std + mean
        drawn = torch.where(reconstruction.mask.bool().unsqueeze(-1), predicted, truth)
        canvas = torch.full_like(patches, torch.nan)
        places = reconstruction.ids.unsqueeze(-1).expand_as(drawn)
        return unpatchify(canvas.scatter(1, places, drawn), self.patch_px)
