"""Translations of some of torch's operators to ONNX that run faster than the exporter's own.

Linear layers become one matrix product with a bias (Gemm) over all tokens of a batch, also when they are quantised.
GELU, where the operator set lacks it, has the form that onnxruntime recognises and fuses into one operator.
"""

import math
from collections.abc import Callable
from typing import Any

import torch

# The exporter's own operator set; the exporter converts its result to the requested one.
from onnxscript import opset18 as op

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
