"""Writes ONNX files: a checked graph with its metadata, the runtime that it needs, and a digest of its content."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fusmae.errors import ExportError
from fusmae.files import written_whole
from fusmae.inference.session import DIGEST_KEY, METADATA_KEY, digest_entry

OLDEST, NEWEST = 17, 25
"""Operator sets that graphs can be exported at."""

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


def save_onnx(model: Any, metadata: Mapping[str, Any], path: Path) -> None:
    """Check an `onnx.ModelProto` and write it with two properties: metadata as JSON, and a digest of the whole content.

    The runtime that the graph needs is added to `metadata`.
    """
    import onnx

    for node in model.graph.node:
        # The exporter writes stack traces: these are paths of this machine, and other bytes in another folder.
        del node.metadata_props[:]
    stated = {**metadata, "runtime": runtime_of(model), "digest": DIGEST_KEY}
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(stated, sort_keys=True)})
    onnx.checker.check_model(model, full_check=True)
    write_graph(model, path)


def write_graph(model: Any, path: Path) -> None:
    """Write an `onnx.ModelProto` with a digest of its content, which replaces any other digest."""
    properties = [item for item in model.metadata_props if item.key != DIGEST_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(properties)
    content = model.SerializeToString()
    with written_whole(path) as partial:
        # Properties are ONNX's last field: the bytes before this entry are the rest of the file.
        partial.write_bytes(content + digest_entry(hashlib.sha256(content).hexdigest()))


def runtime_of(model: Any) -> dict[str, Any]:
    """What an `onnx.ModelProto` needs to run, for its metadata: operator set, IR version, the first onnxruntime.

    Raises:
        ExportError: no runtime is known for its operator set, IR version or operators.
    """
    (stated,) = (item for item in model.opset_import if item.domain in ("", "ai.onnx"))
    others = sorted({node.domain for node in model.graph.node} - {"", "ai.onnx"})
    onnxruntime, newest_ir = _RUNTIMES.get(stated.version, ("", 0))
    if others or model.ir_version > newest_ir:
        raise ExportError(
            "It is not known which onnxruntime this graph needs.",
            got=f"operator set {stated.version}, IR version {model.ir_version}, further operators {others or 'none'}",
            expected=f"operator set {OLDEST} to {NEWEST} at its oldest IR version, ONNX's own operators only",
            hint="export it with this build: dvc repro -f -s export",
        )
    return {"opset": stated.version, "ir_version": model.ir_version, "onnxruntime": f">={onnxruntime}"}
