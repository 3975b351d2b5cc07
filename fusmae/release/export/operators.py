"""Operators that are exported in another form than torch's exporter gives them, because that form runs faster.

Attention becomes one ONNX operator if the operator set has it, else plain matrix products and a softmax. From operator
set 23 on, onnxruntime can't run torch's own form of it at all (benchmarks/attention.py). Linear layers become one
matrix product with a bias (Gemm) over all tokens of a batch, also when they are quantised. GELU, where the operator set
lacks it, has the form that onnxruntime recognises and fuses into one operator.
"""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from onnxscript import opset18 as op
from timm.layers.attention import Attention
from torch import Tensor, nn

from fusmae.models.attention import CrossAttention

OPERATOR_SINCE = 23
"""The first operator set of ONNX that has `Attention`."""

# Summand for tokens that must not be seen: its exponential is 0 in any precision. Half precision makes it infinite,
# which has the same effect.
_UNSEEN = -1e9

Attend = Callable[[Sequence[Tensor], int, Tensor | None], Tensor]
"""Attention of projected tokens: (tensors, number of heads, mask or None) → `[B, L_q, D]`.

The tensors are query `[B, L_q, D]`, key and value `[B, L_c, D]`; those of the same tokens are joined along D.
"""


def with_onnx_attention(model: nn.Module, opset: int) -> Any:
    """Copy a model in eval mode for export; the copy shares the model's weights and keeps their names.

    Its attention computes the same as the model's, with operators that the operator set has.
    """
    attend = _attend_by_operator if opset >= OPERATOR_SINCE else _attend_by_products
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    fused = copy.deepcopy(model, shared)
    for parent in list(fused.modules()):
        for name, child in parent.named_children():
            if isinstance(child, Attention):
                setattr(parent, name, _SelfAttention(child, attend))
            elif isinstance(child, CrossAttention):
                setattr(parent, name, _CrossAttention(child, attend))
    return fused


class _SelfAttention(nn.Module):
    """timm's `Attention`, without the options that this project doesn't use."""

    def __init__(self, trained: Attention, attend: Attend) -> None:
        super().__init__()
        self.attend = attend
        options = (trained.q_norm, trained.k_norm, trained.norm)
        if trained.gate is not None or not all(isinstance(option, nn.Identity) for option in options):
            raise NotImplementedError("attention with norms or a gate has no export of its own yet")
        self.num_heads, self.qkv, self.proj = trained.num_heads, trained.qkv, trained.proj

    def forward(self, tokens: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """`[B, L, D]` → `[B, L, D]`; the mask `[B, 1, 1, L]` is True for keys that may be seen."""
        out: Tensor = self.proj(self.attend([self.qkv(tokens)], self.num_heads, attn_mask))
        return out


class _CrossAttention(nn.Module):
    """See `CrossAttention`."""

    def __init__(self, trained: CrossAttention, attend: Attend) -> None:
        super().__init__()
        self.attend = attend
        self.num_heads, self.q, self.kv, self.proj = trained.num_heads, trained.q, trained.kv, trained.proj

    def forward(self, query: Tensor, context: Tensor, key_mask: Tensor | None = None) -> Tensor:
        """See `CrossAttention.forward`."""
        attn_mask = None if key_mask is None else key_mask[:, None, None, :]
        out: Tensor = self.proj(self.attend([self.q(query), self.kv(context)], self.num_heads, attn_mask))
        return out


def _attend_by_operator(projected: Sequence[Tensor], num_heads: int, attn_mask: Tensor | None) -> Tensor:
    dim = sum(tokens.shape[-1] for tokens in projected) // 3
    query, key, value = (part for tokens in projected for part in tokens.chunk(tokens.shape[-1] // dim, dim=-1))
    bias = None
    if attn_mask is not None:  # onnxruntime needs it for every query
        bias = _bias(attn_mask).expand(-1, -1, query.shape[1], -1)
    out: Tensor = torch.onnx.ops.attention(query, key, value, bias, q_num_heads=num_heads, kv_num_heads=num_heads)[0]
    return out


def _attend_by_products(projected: Sequence[Tensor], num_heads: int, attn_mask: Tensor | None) -> Tensor:
    head_dim = sum(tokens.shape[-1] for tokens in projected) // (3 * num_heads)
    # Heads are split off once for query, key and value together: operators that only move numbers take a tenth of a
    # tiny model's time.
    query, key, value = (
        part
        for tokens in projected
        for part in tokens.reshape(*tokens.shape[:2], tokens.shape[2] // head_dim, head_dim)
        .transpose(1, 2)
        .chunk(tokens.shape[2] // (head_dim * num_heads), dim=1)
    )
    if attn_mask is not None:
        # The bias is added inside the product, as one more entry of each query (1) and key (the bias): a sum over all
        # pairs of tokens would take a tenth of a ViT-S's time.
        query = nn.functional.pad(query, (0, 1), value=1.0)
        key = torch.cat([key, _bias(attn_mask).transpose(-2, -1).expand(-1, num_heads, -1, -1)], dim=-1)
    scores = query @ key.transpose(-2, -1) * head_dim**-0.5
    out: Tensor = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
    return out


def _bias(attn_mask: Tensor) -> Tensor:
    """The mask `[B, 1, 1, L]` as a summand of the attention scores."""
    return torch.where(attn_mask, 0.0, _UNSEEN)


GELU_SINCE = 20
"""The first operator set of ONNX that has `Gelu`."""


def _linear(tokens: Any, weight: Any, bias: Any = None) -> Any:
    """`[B, …, D]` × `[K, D]` → `[B, …, K]`; only B may be dynamic."""
    inner = [int(side) for side in list(tokens.shape)[1:-1]]
    if not inner:
        return op.Gemm(tokens, weight, bias, transB=1)
    flat = op.Reshape(tokens, op.Constant(value_ints=[-1, int(tokens.shape[-1])]))
    return op.Reshape(op.Gemm(flat, weight, bias, transB=1), op.Constant(value_ints=[-1, *inner, int(weight.shape[0])]))


def _gelu(values: Any, approximate: str = "none") -> Any:
    """GELU by the error function: values of any shape → the same shape."""
    if approximate != "none":
        raise NotImplementedError(f"GELU approximated by {approximate} has no export of its own yet")
    cumulative = op.Add(op.Erf(op.Div(values, op.Constant(value_float=math.sqrt(2)))), op.Constant(value_float=1.0))
    return op.Mul(op.Mul(values, cumulative), op.Constant(value_float=0.5))


def translations(opset: int) -> dict[Callable[..., Any], Callable[..., Any]]:
    """Translations for `torch.onnx.export(custom_translation_table=…)` at an ONNX operator set."""
    own: dict[Callable[..., Any], Callable[..., Any]] = {torch.ops.aten.linear.default: _linear}
    return own if opset >= GELU_SINCE else {**own, torch.ops.aten.gelu.default: _gelu}
