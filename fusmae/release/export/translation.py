"""How some of torch's operators become ONNX, where the exporter's own translation takes more time.

Linear layers are matrix products with a bias (Gemm) over all tokens of a batch; quantised, they stay one operator.
GELU, where the operator set lacks it, has the form that onnxruntime knows and makes one operator again.
"""

import math
from collections.abc import Callable
from typing import Any

import torch

# The exporter's own operator set; it converts what it has made to the one that is asked for.
from onnxscript import opset18 as op

GELU_SINCE = 20
"""The first operator set of ONNX that has `Gelu`."""


def _linear(tokens: Any, weight: Any, bias: Any = None) -> Any:
    """`[B, …, D]` × `[K, D]` → `[B, …, K]`; only B may be unknown."""
    inner = [int(side) for side in list(tokens.shape)[1:-1]]
    if not inner:
        return op.Gemm(tokens, weight, bias, transB=1)
    flat = op.Reshape(tokens, op.Constant(value_ints=[-1, int(tokens.shape[-1])]))
    return op.Reshape(op.Gemm(flat, weight, bias, transB=1), op.Constant(value_ints=[-1, *inner, int(weight.shape[0])]))


def _gelu(values: Any, approximate: str = "none") -> Any:
    """Values of any shape → the same, by the error function."""
    if approximate != "none":
        raise NotImplementedError(f"GELU approximated by {approximate} has no export of its own yet")
    cumulative = op.Add(op.Erf(op.Div(values, op.Constant(value_float=math.sqrt(2)))), op.Constant(value_float=1.0))
    return op.Mul(op.Mul(values, cumulative), op.Constant(value_float=0.5))


def translations(opset: int) -> dict[Callable[..., Any], Callable[..., Any]]:
    """For `torch.onnx.export(custom_translation_table=…)`, at an ONNX operator set."""
    own: dict[Callable[..., Any], Callable[..., Any]] = {torch.ops.aten.linear.default: _linear}
    return own if opset >= GELU_SINCE else {**own, torch.ops.aten.gelu.default: _gelu}
