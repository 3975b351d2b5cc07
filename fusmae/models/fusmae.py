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
    """Predicted patches of one modality and their targets.

    The visible patches come first, then the decoded removed ones, in the drawn order.

    Attributes:
        pred: predicted patches `[B, L_dec, C·P·P]`, values in `patchify`'s order.
        target: normalised pixels `[B, L_dec, C·P·P]`, float32.
        mask: float32 `[B, L_dec]`, 1 = removed (counted in the loss), 0 = visible.
        ids: index `[B, L_dec]` of each patch in the grid.
    """

    pred: Tensor
    target: Tensor
    mask: Tensor
    ids: Tensor


def reconstruction_loss(reconstruction: Reconstruction) -> Tensor:
    """Mean squared error of each removed patch, averaged over these patches: a float32 scalar, 0 if none is removed."""
    error = (reconstruction.pred.float() - reconstruction.target).square().mean(dim=-1)
    removed = torch.where(reconstruction.mask.bool(), error, 0.0)
    return removed.sum() / reconstruction.mask.sum().clamp(min=1.0)


class FusMAE(nn.Module):
    """A masked autoencoder over modalities that are fused by cross-attention.

    Args:
        groups: number of bands in each band group, by modality; the order of its keys is the modality order.
        tile_px: side of a tile on the finest grid, in pixels.
        patch_px: side P of a patch in pixels; it divides `tile_px`.
        dim: width D of the encoder.
        depth: number of the encoder's blocks, at least 2.
        num_heads: number of attention heads in the encoder and in feature fusion.
        decoder_dim: width of each decoder.
        decoder_depth: number of blocks in each decoder.
        decoder_num_heads: number of attention heads in each decoder.
        early_fusion: whether the encoder's block 0 has cross-attention.
        feature_fusion: whether the visible latents go through cross-attention before the decoders.
        masking: strategy of masking: a mask per modality, or one for all.
        mask_ratio: share of patches removed, by modality.
        target_norm: way in which targets are normalised.
        decode_fraction: share of the removed patches that is decoded (CrossMAE); 1 = all. The attribute of the same
            name may be changed later, for example to draw whole pictures.
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
        """Mask, encode and reconstruct the modalities in `tiles`.

        Args:
            tiles: normalised tiles `[B, C, H, W]` by modality.
            noise: uniform noise `[B, L]` by modality; that of a modality missing from `tiles` is ignored.

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
        """Decode visible latents and pair the predictions with their targets.

        Args:
            latents: latents of the visible patches.
            masks: masks that `latents` were encoded with, by modality.
            tiles: normalised tiles `[B, C, H, W]` by modality, from which the targets are made.
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
        """The normalised patches `ids` of a tile `[B, C, H, W]`: `[B, L_dec, C·P·P]`, float32."""
        truth = select(patchify(tile.float(), self.patch_px), ids)
        mean, std = patch_moments(truth, self.runs[name])
        return (truth - mean) / std

    @torch.no_grad()
    def pixels(self, name: str, reconstruction: Reconstruction, tile: Tensor) -> Tensor:
        """Draw a modality's reconstruction as a tile, for pictures.

        The target normalisation is undone with the true patch's own mean and standard deviation, as MAE does.

        Args:
            name: name of the modality.
            reconstruction: reconstruction of that modality.
            tile: true tile `[B, C, H, W]`, normalised.

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
