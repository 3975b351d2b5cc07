"""Fus-MAE: the masked autoencoder, its reconstructions and their loss."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fusmae.models.attention import XAttnDecoder
from fusmae.models.decoder import Decoder
from fusmae.models.encoder import Encoder, Latents
from fusmae.models.initialise import initialise
from fusmae.models.masking import Mask, Strategy, draw_masks
from fusmae.models.targets import TargetNorm, normalised_runs, patch_moments
from fusmae.models.tokens import grid_side, patchify, select, unpatchify


@dataclass(frozen=True)
class Reconstruction:
    """One modality's patches as predicted and as wanted.

    The visible patches stand first, then the decoded removed ones, in the drawn order.

    Attributes:
        pred: `[B, L_dec, P·P·C]`, values in `patchify`'s order.
        target: `[B, L_dec, P·P·C]` normalised pixels, float32.
        mask: `[B, L_dec]` float32, 1 = removed (counted in the loss), 0 = visible.
        ids: `[B, L_dec]` each patch's place in the grid.
    """

    pred: Tensor
    target: Tensor
    mask: Tensor
    ids: Tensor


def reconstruction_loss(reconstruction: Reconstruction) -> Tensor:
    """Mean over the removed patches of the mean squared error of each: a float32 scalar, 0 if none is removed."""
    error = (reconstruction.pred.float() - reconstruction.target).square().mean(dim=-1)
    removed = torch.where(reconstruction.mask.bool(), error, 0.0)
    return removed.sum() / reconstruction.mask.sum().clamp(min=1.0)


class FusMAE(nn.Module):
    """A masked autoencoder over modalities that are fused by cross-attention.

    Args:
        groups: bands of each band group, by modality; its order is the modality order.
        tile_px: a tile's side at the finest grid.
        patch_px: a patch's side P; divides `tile_px`.
        dim: the encoder's width.
        depth: the encoder's blocks, at least 2.
        num_heads: the encoder's heads, and those of feature fusion.
        decoder_dim: each decoder's width.
        decoder_depth: each decoder's blocks.
        decoder_num_heads: each decoder's heads.
        early_fusion: cross-attention in the encoder's block 0.
        feature_fusion: cross-attention on the visible latents, before the decoders.
        masking: each modality its own mask, or one for all.
        mask_ratio: share of patches removed, by modality.
        target_norm: how targets are normalised.
        decode_fraction: share of the removed patches that is decoded (CrossMAE); 1 = all. An attribute
            of the same name may be changed later, to draw whole pictures for example.
    """

    def __init__(
        self,
        *,
        groups: Mapping[str, tuple[int, ...]],
        tile_px: int,
        patch_px: int,
        dim: int,
        depth: int,
        num_heads: int,
        decoder_dim: int,
        decoder_depth: int,
        decoder_num_heads: int,
        early_fusion: bool,
        feature_fusion: bool,
        masking: Strategy,
        mask_ratio: Mapping[str, float],
        target_norm: TargetNorm,
        decode_fraction: float,
    ) -> None:
        super().__init__()
        missing = [name for name in groups if name not in mask_ratio]
        if missing:
            raise ValueError(f"mask_ratio lacks {missing}; it has {list(mask_ratio)}")
        self.patch_px = patch_px
        self.masking, self.mask_ratio, self.decode_fraction = masking, dict(mask_ratio), decode_fraction
        self.runs = {name: normalised_runs(target_norm, bands, patch_px) for name, bands in groups.items()}
        in_chans = {name: sum(bands) for name, bands in groups.items()}
        self.encoder = Encoder(
            in_chans=in_chans,
            tile_px=tile_px,
            patch_px=patch_px,
            dim=dim,
            depth=depth,
            num_heads=num_heads,
            early_fusion=early_fusion,
        )
        self.latent_fusion = XAttnDecoder(tuple(groups), dim, num_heads) if feature_fusion else None
        if self.latent_fusion is not None:
            self.latent_fusion.apply(initialise)
        self.decoders = nn.ModuleDict(
            {
                name: Decoder(
                    latent_dim=dim,
                    grid_side=grid_side(tile_px, patch_px),
                    patch_values=bands * patch_px * patch_px,
                    dim=decoder_dim,
                    depth=decoder_depth,
                    num_heads=decoder_num_heads,
                )
                for name, bands in in_chans.items()
            }
        )

    def forward(self, tiles: dict[str, Tensor], noise: dict[str, Tensor]) -> dict[str, Reconstruction]:
        """Mask, encode and reconstruct the modalities that are there.

        Args:
            tiles: normalised `[B, C, H, W]` by modality.
            noise: `[B, L]` uniform noise by modality; that of a modality missing from `tiles` is ignored.

        Returns:
            A reconstruction for each modality in `tiles`.
        """
        masks = self.draw_masks(tiles, noise)
        return self.reconstruct(self.encoder(tiles, masks), masks, tiles)

    def draw_masks(self, tiles: Mapping[str, Tensor], noise: Mapping[str, Tensor]) -> dict[str, Mask]:
        """One mask for each modality in `tiles`, from noise `[B, L]`."""
        present = {name: noise[name] for name in self.encoder.in_chans if name in tiles}
        return draw_masks(present, self.mask_ratio, self.masking)

    def reconstruct(
        self, latents: Latents, masks: Mapping[str, Mask], tiles: Mapping[str, Tensor]
    ) -> dict[str, Reconstruction]:
        """Decode visible latents and set them beside their targets.

        Args:
            latents: of the visible patches.
            masks: those that `latents` were encoded with.
            tiles: normalised `[B, C, H, W]` by modality: the targets.
        """
        visible = latents.tokens if self.latent_fusion is None else self.latent_fusion(latents.tokens)
        reconstructions = {}
        for name, latent in visible.items():
            ids = self._decoded_ids(masks[name])
            reconstructions[name] = Reconstruction(
                pred=self.decoders[name](latent, ids),
                target=self._target(name, tiles[name], ids),
                mask=masks[name].mask.gather(1, ids),
                ids=ids,
            )
        return reconstructions

    def _decoded_ids(self, mask: Mask) -> Tensor:
        """`[B, L_dec]`: the visible patches, then the first `decode_fraction` of the removed ones, at least one."""
        visible, removed = mask.ids_keep.shape[1], mask.mask.shape[1] - mask.ids_keep.shape[1]
        decoded = min(removed, max(1, round(removed * self.decode_fraction)))
        return mask.ids_shuffle[:, : visible + decoded]

    @torch.no_grad()
    def _target(self, name: str, tile: Tensor, ids: Tensor) -> Tensor:
        """The normalised patches `ids` of a tile `[B, C, H, W]`: `[B, L_dec, P·P·C]`, float32."""
        truth = select(patchify(tile.float(), self.patch_px), ids)
        mean, std = patch_moments(truth, self.runs[name])
        return (truth - mean) / std

    @torch.no_grad()
    def pixels(self, name: str, reconstruction: Reconstruction, tile: Tensor) -> Tensor:
        """Draw a modality's reconstruction as a tile, for pictures.

        The target normalisation is undone with the true patch's own mean and deviation, as MAE does.

        Args:
            name: the modality.
            reconstruction: of that modality.
            tile: `[B, C, H, W]` normalised, the truth.

        Returns:
            `[B, C, H, W]` float32 normalised pixels: visible patches from the truth, decoded ones as
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
