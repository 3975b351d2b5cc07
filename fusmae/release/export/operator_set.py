"""ONNX operator sets: what a graph of each needs to run, and how a graph gets to the oldest."""

from collections.abc import Callable
from typing import Any

from fusmae.errors import ExportError

OLDEST, NEWEST = 17, 25
"""Operator sets that graphs can be exported at."""

# torch's exporter makes graphs of this one, and goes up from there.
_EXPORTERS_OLDEST = 18

# The first onnxruntime that runs this project's graphs at an operator set, and the IR version (the file format) that it
# reads. Each was installed and gave torch's answers; the version before refused.
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
    """What a graph needs to run, as its metadata state it: operator set, IR version, the first onnxruntime.

    Args:
        graph: an `onnx.ModelProto`.

    Raises:
        ExportError: its operators are of a set, or its file of an IR version, that no known runtime is stated for.
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
    """The operator set to ask torch's exporter for, where `opset` is wanted."""
    return max(opset, _EXPORTERS_OLDEST)


def with_operator_set(graph: Any, opset: int) -> Any:
    """A graph of torch's exporter at the operator set that is wanted, in the oldest file format that holds it.

    Args:
        graph: an `onnx.ModelProto` at `exported_at(opset)`; is changed.
        opset: ONNX operator set.

    Raises:
        ExportError: the exporter made another one, or the graph has an operator that the older set lacks.
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
    # A format of its own is for types that these graphs don't hold; runtimes refuse one that they don't know.
    graph.ir_version = min(graph.ir_version, onnx.helper.find_min_ir_version_for(graph.opset_import))
    return graph


def _older_split(node: Any, constants: Any) -> None:  # noqa: ARG001
    """Equal parts need no number: there are as many as outputs."""
    _drop(node, "num_outputs")


def _older_resize(node: Any, constants: Any) -> None:  # noqa: ARG001
    """What the newer set added has the older one's behaviour by default."""
    _drop(node, "antialias", "keep_aspect_ratio_policy")


def _older_reduction(node: Any, constants: Any) -> None:
    """Axes are an attribute."""
    import onnx

    axes = onnx.numpy_helper.to_array(constants[node.input.pop()]).tolist()
    _drop(node, "noop_with_empty_axes")
    node.attribute.append(onnx.helper.make_attribute("axes", axes))


def _drop(node: Any, *names: str) -> None:
    kept = [item for item in node.attribute if item.name not in names]
    del node.attribute[:]
    node.attribute.extend(kept)


# From operator set 18 to 17; onnx's own converter has no way for these.
_OLDER: dict[str, Callable[[Any, Any], None]] = {
    "Split": _older_split,
    "Resize": _older_resize,
    "ReduceMax": _older_reduction,
}
