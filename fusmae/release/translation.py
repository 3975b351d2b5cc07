"""How torch's linear layers become ONNX: matrix products with a bias (Gemm) over all tokens of a batch.

The exporter's own translation takes more time; quantised, these stay one operator.
"""

from collections.abc import Callable
from typing import Any

import torch

# The exporter's own operator set; it converts what it has made to the one that is asked for.
from onnxscript import opset18 as op


def _linear(tokens: Any, weight: Any, bias: Any = None) -> Any:
    """`[B, …, D]` × `[K, D]` → `[B, …, K]`; only B may be unknown."""
    inner = [int(side) for side in list(tokens.shape)[1:-1]]
    if not inner:
        return op.Gemm(tokens, weight, bias, transB=1)
    flat = op.Reshape(tokens, op.Constant(value_ints=[-1, int(tokens.shape[-1])]))
    return op.Reshape(op.Gemm(flat, weight, bias, transB=1), op.Constant(value_ints=[-1, *inner, int(weight.shape[0])]))


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """For `torch.onnx.export(custom_translation_table=…)`."""
    return {torch.ops.aten.linear.default: _linear}
