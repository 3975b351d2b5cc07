"""ONNX operator sets: the runtime that a graph of each needs, and the conversion of a graph to the oldest set."""

from collections.abc import Callable
from typing import Any

from fusmae.errors import ExportError

OLDEST, NEWEST = 17, 25
"""Operator sets that graphs can be exported at."""

# Operator set at which torch's exporter makes graphs; it can convert them to newer sets.
_EXPORTERS_OLDEST = 18

# The first version of onnxruntime that runs this project's graphs, by operator set, and the IR version (file format)
# that it reads. Each was tried: it gave the same results as torch, and the version before it refused the graph.
_RUNTIMES = {
    17: ("1.12", 8),
    18: ("1.14", 8),
    19: ("1.16", 9),
    20: ("1.17", 9),
    21: ("1.18", 10),
    22: ("1.21", 10),
    23: ("1.23", 10),
    24: ("1.24", 10),
    25: ("1.24", 10),
}


def runtime_of(graph: Any) -> dict[str, Any]:
    """What a graph needs to run, for its metadata: operator set, IR version, the first onnxruntime.

    Args:
        graph: an `onnx.ModelProto`.

    Raises:
        ExportError: no known runtime is stated for the graph's operator set or IR version.
    """
    (stated,) = (item for item in graph.opset_import if item.domain in ("", "ai.onnx"))
    others = sorted({node.domain for node in graph.graph.node} - {"", "ai.onnx"})
    onnxruntime, newest_ir = _RUNTIMES.get(stated.version, ("", 0))
    if others or graph.ir_version > newest_ir:
        raise ExportError(
            "It is not known which onnxruntime this graph needs.",
            got=f"operator set {stated.version}, IR version {graph.ir_version}, further operators {others or 'none'}",
            expected=f"operator set {OLDEST} to {NEWEST} at its oldest IR version, ONNX's own operators only",
            hint="export it with this build: dvc repro -f -s export",
        )
    return {"opset": stated.version, "ir_version": graph.ir_version, "onnxruntime": f">={onnxruntime}"}


def exported_at(opset: int) -> int:
    """The operator set to request from torch's exporter in order to get `opset` in the end."""
    return max(opset, _EXPORTERS_OLDEST)


def with_operator_set(graph: Any, opset: int) -> Any:
    """Convert a graph of torch's exporter to an operator set, in the oldest file format that can hold it.

    Args:
        graph: an `onnx.ModelProto` at `exported_at(opset)`; it is changed.
        opset: number of the ONNX operator set.

    Raises:
        ExportError: the exporter made another operator set than it was asked for.
    """
    import onnx

    (stated,) = graph.opset_import
    if (stated.domain, stated.version) != ("", exported_at(opset)):
        raise ExportError(
            "torch's exporter did not convert the graph to the operator set that was asked for.",
            got=f"{stated.domain or 'ai.onnx'} {stated.version}",
            expected=exported_at(opset),
            hint="choose another export.opset",
        )
    if opset < stated.version:
        constants = {item.name: item for item in graph.graph.initializer}
        for node in graph.graph.node:
            if node.op_type in _OLDER:
                _OLDER[node.op_type](node, constants)
        stated.version = opset
    # Newer file formats only add types that these graphs don't use, and runtimes refuse formats that they don't know.
    graph.ir_version = min(graph.ir_version, onnx.helper.find_min_ir_version_for(graph.opset_import))
    return graph


def _older_split(node: Any, constants: Any) -> None:  # noqa: ARG001
    """Drop the number of equal parts: the older set infers it from the outputs."""
    _drop(node, "num_outputs")


def _older_resize(node: Any, constants: Any) -> None:  # noqa: ARG001
    """Drop the newer set's attributes: their defaults are the older set's behaviour."""
    _drop(node, "antialias", "keep_aspect_ratio_policy")


def _older_reduction(node: Any, constants: Any) -> None:
    """Move the axes from an input to an attribute, as the older set has them."""
    import onnx

    axes = onnx.numpy_helper.to_array(constants[node.input.pop()]).tolist()
    _drop(node, "noop_with_empty_axes")
    node.attribute.append(onnx.helper.make_attribute("axes", axes))


def _drop(node: Any, *names: str) -> None:
    kept = [item for item in node.attribute if item.name not in names]
    del node.attribute[:]
    node.attribute.extend(kept)


# Conversions from operator set 18 to 17 that onnx's own converter lacks.
_OLDER: dict[str, Callable[[Any, Any], None]] = {
    "Split": _older_split,
    "Resize": _older_resize,
    "ReduceMax": _older_reduction,
}
