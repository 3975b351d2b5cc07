"""How two torch operators become ONNX: the exporter's own translations are right, but cost up to a third of the time.

Standard operators only, so that the graph runs anywhere. Attention needs no guard against rows of NaN: every row sees
one key at least. Linear layers are matrix products with a bias (Gemm) over all tokens of a batch: quantised, they stay
one operator.
"""

from collections.abc import Callable
from typing import Any

import torch

# The exporter's own operator set; it converts what it has made to the one that is asked for.
from onnxscript import opset18 as op


def _attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Query `[B, N, L_q, D]`, key and value `[B, N, L_c, D]` → `[B, N, L_q, D]`; the mask is True for keys to see."""
    if dropout_p or is_causal or scale is not None or enable_gqa:
        raise NotImplementedError("the encoder's attention has a mask of keys and no other option")
    scaled = op.Mul(query, op.Constant(value_float=float(query.shape[-1]) ** -0.5))
    scores = op.MatMul(scaled, op.Transpose(key, perm=[0, 1, 3, 2]))
    if attn_mask is not None:
        nothing, unseen = op.Constant(value_float=0.0), op.Constant(value_float=float("-inf"))
        scores = op.Add(scores, op.Where(attn_mask, nothing, unseen))
    return op.MatMul(op.Softmax(scores, axis=-1), value)


def _linear(tokens: Any, weight: Any, bias: Any = None) -> Any:
    """`[B, …, D]` × `[K, D]` → `[B, …, K]`; only B may be unknown."""
    inner = [int(side) for side in list(tokens.shape)[1:-1]]
    if not inner:
        return op.Gemm(tokens, weight, bias, transB=1)
    flat = op.Reshape(tokens, op.Constant(value_ints=[-1, int(tokens.shape[-1])]))
    return op.Reshape(op.Gemm(flat, weight, bias, transB=1), op.Constant(value_ints=[-1, *inner, int(weight.shape[0])]))


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """For `torch.onnx.export(custom_translation_table=…)`."""
    aten = torch.ops.aten
    return {aten.scaled_dot_product_attention.default: _attention, aten.linear.default: _linear}
