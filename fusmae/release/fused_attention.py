"""Attention as ONNX's one operator: a third fewer operators to run than its products and transpositions apart."""

import copy
from typing import Any

import torch
from timm.layers.attention import Attention
from torch import Tensor, nn

from fusmae.models.attention import CrossAttention

# Its exponential is 0 in any precision; half precision makes it infinite, which comes to the same.
_UNSEEN = -1e9


def with_fused_attention(model: nn.Module) -> Any:
    """A model for export, that shares the weights of the one it is made from; the names of the weights stay.

    Its attention does with `Attention` of ONNX's operator set 23 what the model's own does.

    Args:
        model: in eval mode; isn't changed.
    """
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    fused = copy.deepcopy(model, shared)
    for parent in list(fused.modules()):
        for name, child in parent.named_children():
            if isinstance(child, Attention):
                setattr(parent, name, _SelfAttention(child))
            elif isinstance(child, CrossAttention):
                setattr(parent, name, _CrossAttention(child))
    return fused


class _SelfAttention(nn.Module):
    """timm's `Attention`, without the options that this project doesn't use."""

    def __init__(self, trained: Attention) -> None:
        super().__init__()
        options = (trained.q_norm, trained.k_norm, trained.norm)
        if trained.gate is not None or not all(isinstance(option, nn.Identity) for option in options):
            raise NotImplementedError("attention with norms or a gate has no export of its own yet")
        self.num_heads, self.qkv, self.proj = trained.num_heads, trained.qkv, trained.proj

    def forward(self, tokens: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """`[B, L, D]` → `[B, L, D]`; the mask `[B, 1, 1, L]` is True for keys to see."""
        query, key, value = self.qkv(tokens).chunk(3, dim=-1)
        out: Tensor = self.proj(_attend(query, key, value, self.num_heads, attn_mask))
        return out


class _CrossAttention(nn.Module):
    """See `CrossAttention`."""

    def __init__(self, trained: CrossAttention) -> None:
        super().__init__()
        self.num_heads, self.q, self.kv, self.proj = trained.num_heads, trained.q, trained.kv, trained.proj

    def forward(self, query: Tensor, context: Tensor, key_mask: Tensor | None = None) -> Tensor:
        """See `CrossAttention.forward`."""
        key, value = self.kv(context).chunk(2, dim=-1)
        attn_mask = None if key_mask is None else key_mask[:, None, None, :]
        out: Tensor = self.proj(_attend(self.q(query), key, value, self.num_heads, attn_mask))
        return out


def _attend(query: Tensor, key: Tensor, value: Tensor, num_heads: int, attn_mask: Tensor | None) -> Tensor:
    """Query `[B, L_q, D]`, key and value `[B, L_c, D]` → `[B, L_q, D]`."""
    bias = None
    if attn_mask is not None:  # onnxruntime wants it for every query
        bias = torch.where(attn_mask, 0.0, _UNSEEN).expand(-1, -1, query.shape[1], -1)
    found: Tensor = torch.onnx.ops.attention(query, key, value, bias, q_num_heads=num_heads, kv_num_heads=num_heads)[0]
    return found
