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

# Its exponential is 0 in any precision; half precision makes it infinite, which comes to the same.
_UNSEEN = -1e9


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
    if attn_mask is not None:
        scaled, key = _with_mask(scaled, key, attn_mask, int(query.shape[1]))
    scores = op.MatMul(scaled, op.Transpose(key, perm=[0, 1, 3, 2]))
    return op.MatMul(op.Softmax(scores, axis=-1), value)


def _with_mask(query: Any, key: Any, attn_mask: Any, num_heads: int) -> tuple[Any, Any]:
    """Carry a mask of keys `[B, 1, 1, L_c]` in one more number of queries and keys, instead of adding it to each score.

    A query has 1 there and a key 0, or what no score can make up for.
    """
    unseen = op.Where(attn_mask, op.Constant(value_float=0.0), op.Constant(value_float=_UNSEEN))
    heads = op.Constant(value_floats=[1.0] * num_heads)
    of_keys = op.Mul(op.Transpose(unseen, perm=[0, 1, 3, 2]), op.Reshape(heads, _shape(1, num_heads, 1, 1)))
    first = op.Slice(query, _shape(0), _shape(1), _shape(3))
    ones = op.Add(op.Mul(first, op.Constant(value_float=0.0)), op.Constant(value_float=1.0))
    return op.Concat(query, ones, axis=-1), op.Concat(key, of_keys, axis=-1)


def _shape(*sides: int) -> Any:
    return op.Constant(value_ints=list(sides))


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
