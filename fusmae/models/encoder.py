"""The encoder: embed each modality, fuse early, then one trunk over all tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from fusmae.models.architecture import Architecture
from fusmae.models.attention import LAYER_NORM, TOKEN_STD, XAttnEncoder, initialise, key_mask_of, self_attention_block
from fusmae.models.masking import Mask
from fusmae.models.tokens import PatchEmbed, grid_side


@dataclass(frozen=True)
class Latents:
    """The encoder's output."""

    cls: Tensor  # CLS latents `[B, D]`
    # Latents `[B, L_vis, D]` of the visible patches by modality, in the encoder's modality order.
    tokens: dict[str, Tensor]
    # `[B, M]` bool as it was given, columns in the encoder's modality order; None if every row has every modality in
    # `tokens`. An absent modality's tokens mean nothing.
    presence: Tensor | None


class Encoder(nn.Module):
    """Encode tiles of one or more modalities into latents.

    Block 0 is the XAttnEncoder (`early_fusion`) or an ordinary joint block. CLS joins after block 0 in
    both, so that the switch changes the cross-attention and nothing else; depth − 1 joint blocks follow.

    `drop_path` is the rate of the last block; it grows linearly from 0 at block 0.

    Attributes:
        in_chans: number of bands C by modality, in the modality order.
        feature_info: for each block its module's name, width D (`num_chs`) and pixels per patch (`reduction`), as
            timm's models have them; timm's own wrappers read it and `forward_intermediates`.
    """

    def __init__(self, architecture: Architecture, *, drop_path: float = 0.0) -> None:
        super().__init__()
        dim, depth, num_heads = architecture.dim, architecture.depth, architecture.num_heads
        self.in_chans = architecture.in_chans
        self.dim, self.depth, self.early_fusion = dim, depth, architecture.early_fusion
        self.embed = nn.ModuleDict(
            {
                name: PatchEmbed(bands, architecture.tile_px, architecture.patch_px, dim)
                for name, bands in self.in_chans.items()
            }
        )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.first_block = (
            XAttnEncoder(tuple(self.in_chans), dim, num_heads)
            if self.early_fusion
            else self_attention_block(dim, num_heads)
        )
        rates = [drop_path * index / (depth - 1) for index in range(1, depth)]
        self.blocks = nn.ModuleList([self_attention_block(dim, num_heads, rate) for rate in rates])
        self.norm = LAYER_NORM(dim)
        self._grid = (grid_side(architecture.tile_px, architecture.patch_px),) * 2
        modules = ["first_block", *(f"blocks.{index}" for index in range(depth - 1))]
        self.feature_info = [{"module": name, "num_chs": dim, "reduction": architecture.patch_px} for name in modules]
        self.apply(initialise)
        nn.init.normal_(self.cls_token, std=TOKEN_STD)

    @property
    def num_layers(self) -> int:
        """The highest layer id, depth + 1, which the final norm and a head have, as in MAE's layer decay.

        A parameter's learning rate is scaled by `decay ** (num_layers - layer_of(name))`.
        """
        return self.depth + 1

    def layer_of(self, parameter_name: str) -> int:
        """The layer id of a parameter: 0 for embeddings and CLS, i + 1 for block i, `num_layers` for the final norm.

        Raises:
            ValueError: the encoder has no such parameter.
        """
        part, _, rest = parameter_name.partition(".")
        if part == "blocks":
            return int(rest.partition(".")[0]) + 2
        layers = {"embed": 0, "cls_token": 0, "first_block": 1, "norm": self.num_layers}
        if part not in layers:
            raise ValueError(f"the encoder has no parameter {parameter_name!r}")
        return layers[part]

    def forward(
        self, tiles: dict[str, Tensor], masks: dict[str, Mask] | None = None, presence: Tensor | None = None
    ) -> Latents:
        """Encode the visible patches of the modalities in `tiles`.

        A modality is missing for the whole batch if it is not in `tiles`, and for one row if it is False in
        `presence`; both give the same latents.

        Args:
            tiles: normalised tiles `[B, C, H, W]` by modality.
            masks: masks by modality; None to see every patch.
            presence: `[B, M]` bool, columns in the order of `in_chans`; each row has at least one True
                among the modalities in `tiles` (not checked: the latents of a row without one mean nothing).
                An absent modality's pixels never matter, not even NaN.

        Returns:
            Latents; the tokens are in the order of the visible patches.

        Raises:
            ValueError: `tiles` has no modality or an unknown one, or shapes don't fit the model.
        """
        return self._encode(tiles, masks, presence)

    def forward_blocks(
        self, tiles: dict[str, Tensor], blocks: Sequence[int], presence: Tensor | None = None
    ) -> tuple[Latents, list[dict[str, Tensor]]]:
        """Latents of whole tiles, and the tokens `[B, L, D]` by modality after each of some blocks, the last one among
        them, whose tokens are those of the latents, after the final norm; other arguments are those of `forward`.
        """
        outputs: list[Tensor] = []
        latents = self._encode(tiles, None, presence, outputs)
        sizes = [tokens.shape[1] for tokens in latents.tokens.values()]
        found = []
        for block in blocks[:-1]:
            tokens = outputs[block] if block == 0 else outputs[block][:, 1:]  # CLS joins after block 0
            found.append(dict(zip(latents.tokens, torch.split(tokens, sizes, dim=1), strict=True)))
        return latents, [*found, latents.tokens]

    def forward_features(self, tiles: dict[str, Tensor]) -> Tensor:
        """Latents of every token of whole tiles, CLS first, then patches by modality, as timm's models give them.

        `[B, C, H, W]` by modality → `[B, 1 + L, D]`.
        """
        latents = self(tiles)
        return torch.cat([latents.cls[:, None], *latents.tokens.values()], dim=1)

    def forward_intermediates(
        self,
        tiles: dict[str, Tensor],
        indices: int | list[int] | None = None,
        norm: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Outputs of blocks for whole tiles, as timm's models give them.

        Args:
            tiles: normalised tiles `[B, C, H, W]` by modality; one may be missing.
            indices: numbers of blocks from 0, or a count of the last ones; None for all.
            norm: whether the final norm is applied to each.
            output_fmt: `NCHW` for maps `[B, D, h, w]`, each the mean over the modalities in `tiles`, which share a grid
                of patches; `NLC` for all patches `[B, L, D]`, by modality. CLS is left out.
            intermediates_only: whether to leave out what `forward_features` returns.

        Returns:
            A list of the blocks' outputs; with `forward_features`' before it, unless left out.

        Raises:
            ValueError: `output_fmt` is another, or as of `forward`.
        """
        if output_fmt not in ("NCHW", "NLC"):
            raise ValueError(f"got output_fmt {output_fmt!r}, expected NCHW or NLC")
        taken, _ = feature_take_indices(self.depth, indices)
        outputs: list[Tensor] = []
        latents = self._encode(tiles, None, None, outputs)
        found = []
        for index in taken:
            tokens = outputs[index] if index == 0 else outputs[index][:, 1:]  # CLS joins after block 0
            own = self.norm(tokens) if norm else tokens
            if output_fmt == "NCHW":
                own = own.unflatten(1, (len(latents.tokens), *self._grid)).mean(1).permute(0, 3, 1, 2).contiguous()
            found.append(own)
        if intermediates_only:
            return found
        return torch.cat([latents.cls[:, None], *latents.tokens.values()], dim=1), found

    def _encode(
        self,
        tiles: dict[str, Tensor],
        masks: dict[str, Mask] | None,
        presence: Tensor | None,
        outputs: list[Tensor] | None = None,
    ) -> Latents:
        """See `forward`; each block's output is appended to `outputs`, if a list is given."""
        names = self._names(tiles, presence)
        present = None
        if presence is not None:
            present = {name: presence[:, column] for column, name in enumerate(self.in_chans) if name in tiles}
        if present is not None and self.training:  # otherwise absent pixels, possibly NaN, would enter the gradient
            tiles = {name: torch.where(present[name][:, None, None, None], tiles[name], 0.0) for name in names}
        tokens = {name: self.embed[name](tiles[name], masks[name].ids_keep if masks else None) for name in names}
        if present is not None and not self.training:  # the same effect at lower cost: tokens are fewer than pixels
            tokens = {name: torch.where(present[name][:, None, None], own, 0.0) for name, own in tokens.items()}
        attn_mask = None if present is None else key_mask_of(tokens, present)[:, None, None, :]
        if self.early_fusion:
            joined = self.first_block(tokens, present)
        else:
            joined = self.first_block(torch.cat(list(tokens.values()), dim=1), attn_mask=attn_mask)
        if outputs is not None:
            outputs.append(joined)
        normed = self._trunk(joined, attn_mask, outputs)
        cls, *parts = torch.split(normed, [1, *(own.shape[1] for own in tokens.values())], dim=1)
        return Latents(cls=cls.squeeze(1), tokens=dict(zip(names, parts, strict=True)), presence=presence)

    def _names(self, tiles: Mapping[str, Tensor], presence: Tensor | None) -> list[str]:
        """The modalities in `tiles`, in the encoder's order."""
        unknown = [name for name in tiles if name not in self.in_chans]
        names = [name for name in self.in_chans if name in tiles]
        if unknown or not names:
            raise ValueError(f"got tiles of {list(tiles)}, expected one or more of {list(self.in_chans)}")
        if presence is not None and presence.shape[1] != len(self.in_chans):
            raise ValueError(
                f"presence has {presence.shape[1]} columns, expected one for each of {list(self.in_chans)}"
            )
        return names

    def _trunk(self, joined: Tensor, attn_mask: Tensor | None, outputs: list[Tensor] | None) -> Tensor:
        """Prepend CLS to tokens `[B, L, D]`, run the joint blocks and the final norm: `[B, 1 + L, D]`."""
        sequence = torch.cat([self.cls_token.expand(joined.shape[0], -1, -1), joined], dim=1)
        if attn_mask is not None:
            attn_mask = nn.functional.pad(attn_mask, (1, 0), value=True)
        for block in self.blocks:
            sequence = block(sequence, attn_mask=attn_mask)
            if outputs is not None:
                outputs.append(sequence)
        normed: Tensor = self.norm(sequence)
        return normed
