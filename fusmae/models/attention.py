"""Transformer blocks: self-attention, and cross-attention between modalities; their initial weights and drop path.

The literature describes early fusion (XAttnEncoder) and feature fusion (XAttnDecoder) in words only; the places of the
norms are an interpretation.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from timm.layers import Mlp
from timm.models.vision_transformer import Block
from torch import Tensor, nn

MLP_RATIO = 4
LAYER_NORM = partial(nn.LayerNorm, eps=1e-6)
TOKEN_STD = 0.02
"""Standard deviation of the initial values of a learned token (CLS, mask)."""

Presence = Mapping[str, Tensor]
"""Flags `[B]` bool by modality: True where the row has the modality."""


def initialise(module: nn.Module) -> None:
    """Initialise one module: linear weights by Xavier, LayerNorm to 1 and 0, biases to 0. For `nn.Module.apply`.

    The patch projection is a linear layer over flattened patches, so MAE's "Xavier on the projection
    seen as a matrix" is the same rule.
    """
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)


class DropPath(nn.Module):
    """Drops a block's branch for a row with probability `drop_prob`, in training only, and scales up the other rows.

    The caller may set the random numbers that choose the rows. Then a pair's draw depends neither on the other pairs
    in the batch nor on the device.
    """

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.drop_prob = drop_prob
        self.noise: Tensor | None = None
        """Uniform noise `[B]` for the next batch; None to draw it in `forward`."""

    def forward(self, branch: Tensor) -> Tensor:
        """The branch `[B, L, D]`, with zeros in the rows for which it is dropped."""
        if not self.training:
            return branch
        noise = torch.rand(branch.shape[0], device=branch.device) if self.noise is None else self.noise
        factor = (noise >= self.drop_prob).to(branch.dtype) / (1 - self.drop_prob)
        return branch * factor[:, None, None]


def self_attention_block(dim: int, num_heads: int, drop_path: float = 0.0) -> nn.Module:
    """A timm `Block` with fused attention, set up as in MAE: `[B, L, D]` → `[B, L, D]`."""
    block: nn.Module = Block(dim, num_heads, mlp_ratio=MLP_RATIO, qkv_bias=True, norm_layer=LAYER_NORM)
    if drop_path:
        block.drop_path1, block.drop_path2 = DropPath(drop_path), DropPath(drop_path)
    return block


class CrossAttention(nn.Module):
    """Multi-head attention of one sequence to another."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"{num_heads} heads do not divide a width of {dim}")
        self.num_heads = num_heads
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def _heads(self, projected: Tensor) -> Tensor:
        """`[B, L, D]` → `[B, N, L, D / N]`."""
        batch, length, dim = projected.shape
        return projected.reshape(batch, length, self.num_heads, dim // self.num_heads).transpose(1, 2)

    def forward(self, query: Tensor, context: Tensor, key_mask: Tensor | None = None) -> Tensor:
        """Attend from tokens `[B, L_q, D]` to a context `[B, L_c, D]`: `[B, L_q, D]`.

        `key_mask` `[B, L_c]` is True where a context token may be seen; at least one per row.
        """
        key, value = self.kv(context).chunk(2, dim=-1)
        attn_mask = None if key_mask is None else key_mask[:, None, None, :]
        heads = F.scaled_dot_product_attention(
            self._heads(self.q(query)), self._heads(key), self._heads(value), attn_mask=attn_mask
        )
        out: Tensor = self.proj(heads.transpose(1, 2).flatten(2))
        return out


def key_mask_of(tokens: Mapping[str, Tensor], presence: Presence) -> Tensor:
    """Which of the joined tokens may be seen: `[B, sum of L]` bool, from tokens `[B, L, D]` by modality."""
    return torch.cat([presence[name][:, None].expand(-1, tokens[name].shape[1]) for name in tokens], dim=1)


def _attended(
    attentions: nn.ModuleDict, tokens: Mapping[str, Tensor], normed: Mapping[str, Tensor], presence: Presence | None
) -> dict[str, Tensor]:
    """Tokens `[B, L, D]` by modality, each with what its normed tokens gain from those of the other modalities.

    A modality that has no other one beside it, in the batch or in a row, stays as it is there.
    """
    terms = {}
    for name in tokens:
        others = {other: normed[other] for other in tokens if other != name}
        if not others:
            return dict(tokens)
        context = torch.cat(list(others.values()), dim=1)
        if presence is None:
            terms[name] = attentions[name](normed[name], context)
            continue
        key_mask = key_mask_of(others, presence)
        has_counterpart = key_mask.any(dim=1, keepdim=True)
        # A row without a counterpart sees every key, because a softmax over no key gives 0 or NaN, depending on the
        # backend. Its result is replaced by zeros below.
        term = attentions[name](normed[name], context, key_mask | ~has_counterpart)
        terms[name] = torch.where(has_counterpart.unsqueeze(-1), term, 0.0)
    return {name: own + terms[name] for name, own in tokens.items()}


def _check_fusable(modalities: Sequence[str], switch: str) -> None:
    if len(modalities) < 2:
        raise ValueError(f"{switch} needs two modalities or more, got {list(modalities)}; turn it off for one")


class XAttnEncoder(nn.Module):
    """Early fusion: the encoder's first block, in which each modality attends to its counterpart.

    Each modality has its own pre-norm and cross-attention. The results are joined along the tokens, and one shared
    LayerNorm and MLP follow.
    """

    def __init__(self, modalities: Sequence[str], dim: int, num_heads: int) -> None:
        super().__init__()
        _check_fusable(modalities, "early_fusion")
        self.norms = nn.ModuleDict({name: LAYER_NORM(dim) for name in modalities})
        self.attentions = nn.ModuleDict({name: CrossAttention(dim, num_heads) for name in modalities})
        self.norm = LAYER_NORM(dim)
        self.mlp = Mlp(dim, MLP_RATIO * dim)

    def forward(self, tokens: Mapping[str, Tensor], presence: Presence | None = None) -> Tensor:
        """Fuse visible tokens `[B, L_vis, D]` by modality and join them in their order: `[B, sum of L_vis, D]`.

        L_vis may differ between modalities; `presence` is None if every row has all modalities.
        """
        normed = {name: self.norms[name](own) for name, own in tokens.items()}
        joined = torch.cat(list(_attended(self.attentions, tokens, normed, presence).values()), dim=1)
        out: Tensor = joined + self.mlp(self.norm(joined))
        return out


class XAttnDecoder(nn.Module):
    """Feature fusion: before the decoders, each modality's latents attend to those of its counterpart.

    The encoder's final norm was already applied to the latents, so there is no further norm before the attention.
    """

    def __init__(self, modalities: Sequence[str], dim: int, num_heads: int) -> None:
        super().__init__()
        _check_fusable(modalities, "feature_fusion")
        self.attentions = nn.ModuleDict({name: CrossAttention(dim, num_heads) for name in modalities})
        self.norms = nn.ModuleDict({name: LAYER_NORM(dim) for name in modalities})
        self.mlps = nn.ModuleDict({name: Mlp(dim, MLP_RATIO * dim) for name in modalities})

    def forward(self, latents: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Fuse visible latents `[B, L_vis, D]` by modality into latents of the same shapes."""
        fused = _attended(self.attentions, latents, latents, None)
        return {name: own + self.mlps[name](self.norms[name](own)) for name, own in fused.items()}
