"""Exports the ONNX graph, from physical units to probabilities, and checks that it gives the same results as torch.

Upsampling and normalisation are inside the graph.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fusmae.errors import ExportError
from fusmae.files import written_whole
from fusmae.inference.session import DIGEST_KEY, EMBEDDING, METADATA_KEY, PRESENCE, Session, digest_entry
from fusmae.models.heads import Classifier
from fusmae.models.preprocess import Preprocess
from fusmae.release.export.operators import translations, with_onnx_attention
from fusmae.training.checkpoint import Checkpoint

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


class Deployable(nn.Module):
    """Preprocessing and classifier behind one positional signature, as ONNX needs it."""

    def __init__(self, preprocess: Preprocess, classifier: Classifier) -> None:
        super().__init__()
        self.preprocess = preprocess
        self.classifier = classifier
        self.inputs = preprocess.inputs

    def forward(self, *arrays: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits and probabilities `[B, K]`, and the embedding `[B, D]` that they come from.

        Args:
            arrays: one `[B, C, h, w]` float32 per input in the order of `inputs`, then presence `[B, M]`, 1 or 0.
        """
        *pixels, presence = arrays
        tiles = self.preprocess({item.name: array for item, array in zip(self.inputs, pixels, strict=True)})
        embedding = self.classifier.embed(tiles, presence > 0.5)
        logits = self.classifier.head(embedding)
        return logits, torch.sigmoid(logits), embedding

    @torch.no_grad()
    def reference(self, batch: Mapping[str, NDArray[Any]], setting: Sequence[str]) -> NDArray[np.float32]:
        """Torch's logits `[B, K]`, to check parity: tokens of absent modalities are left out here, not masked."""
        present = {item.name: torch.from_numpy(batch[item.name]) for item in self.inputs if item.modality in setting}
        return np.asarray(self.classifier(self.preprocess(present)))


def describe_graph(checkpoint: Checkpoint, *, tile_m: int, data: str, git: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata of a graph: all that is needed to feed it, to interpret its outputs and to trace its origin.

    Args:
        checkpoint: checkpoint of the finetuned model.
        tile_m: side of a tile in metres.
        data: name and licence of the source.
        git: commit and dirty flag at the export.
    """
    return {
        **checkpoint.preprocessing.model_dump(mode="json"),
        "modalities": list(checkpoint.architecture.groups),
        "presence": f"one graph for every setting: input `{PRESENCE}` [B, M] is 1 where a modality is there",
        "tile_m": tile_m,
        "tile_px": checkpoint.architecture.tile_px,
        "classes": list(checkpoint.classes),
        "outputs": {
            "logits": "[B, K]",
            "probabilities": "[B, K], sigmoid of logits",
            EMBEDDING: "[B, D], the tile as the classifier's head sees it",
        },
        "precision": "fp32",
        "git": dict(git),
        "trained": dict(checkpoint.provenance),
        "data": data,
    }


def export_onnx(model: Deployable, *, opset: int) -> Any:
    """Trace the graph with a dynamic batch dimension.

    Args:
        model: the trained model; it is put in eval mode.
        opset: number of the ONNX operator set, `OLDEST` to `NEWEST` of `operator_set`.

    Returns:
        An `onnx.ModelProto`.
    """
    example = [torch.zeros(2, len(item.bands), item.side_px, item.side_px) for item in model.inputs]
    example.append(torch.ones(2, len(model.classifier.encoder.in_chans)))
    batch = torch.export.Dim("batch", min=1, max=4096)
    with warnings.catch_warnings():
        # The warning is about inputs that share one batch dimension, which is intended.
        warnings.filterwarnings("ignore", message="# The axis name: batch will not be used")
        program = torch.onnx.export(
            with_onnx_attention(model.eval(), opset),
            tuple(example),
            input_names=[*(item.name for item in model.inputs), PRESENCE],
            output_names=["logits", "probabilities", EMBEDDING],
            dynamic_shapes=(tuple({0: batch} for _ in example),),
            opset_version=exported_at(opset),
            dynamo=True,
            custom_translation_table=translations(opset),
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise ExportError("torch.onnx.export gave no program.")
    return with_operator_set(program.model_proto, opset)


def save_onnx(model: Any, metadata: Mapping[str, Any], path: Path) -> None:
    """Check a graph and write it with two properties: the metadata as JSON, and a digest of the whole content.

    Args:
        model: an `onnx.ModelProto`.
        metadata: inputs, outputs and origin of the graph; the runtime that it needs is added.
        path: path of the file to write.
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
    """Write a graph with a digest of its content, which replaces any other digest.

    Args:
        model: an `onnx.ModelProto`.
        path: path of the file to write.
    """
    properties = [item for item in model.metadata_props if item.key != DIGEST_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(properties)
    content = model.SerializeToString()
    with written_whole(path) as partial:
        # Properties are ONNX's last field: the bytes before this entry are the rest of the file.
        partial.write_bytes(content + digest_entry(hashlib.sha256(content).hexdigest()))


BATCH_SIZES = (1, 3, 8)
Arrays = Mapping[str, NDArray[Any]]


def check_parity(
    session: Session,
    reference: Callable[[Arrays, Sequence[str]], NDArray[np.float32]],
    read: Callable[[Sequence[int]], Arrays],
    num_pairs: int,
    settings: Sequence[Sequence[str]],
    *,
    max_abs_error: float,
) -> dict[str, Any]:
    """Compare logits and probabilities.

    Args:
        session: session of the exported graph.
        reference: function that computes torch's logits `[B, K]` from pixels and the modalities that are present.
        read: function that reads pairs by their indices and returns arrays by input name.
        num_pairs: number of pairs; every one is compared.
        settings: modality settings, each the modalities that are present.
        max_abs_error: largest difference allowed, in logits and in probabilities.

    Returns:
        The report: largest difference by setting and batch size.

    Raises:
        ExportError: a difference is larger; the error states setting and batch size.
    """
    rows = []
    for setting in settings:
        for batch_size in BATCH_SIZES:
            batches = (
                read(range(start, min(start + batch_size, num_pairs))) for start in range(0, num_pairs, batch_size)
            )
            # np.max keeps a NaN, which Python's max would drop.
            worst = float(np.max([_difference(session, reference, batch, setting) for batch in batches]))
            rows.append({"modalities": list(setting), "batch_size": batch_size, "max_abs_error": worst})
            if not worst <= max_abs_error:
                raise ExportError(
                    f"ONNX and torch differ on {'+'.join(setting)} at batch size {batch_size}.",
                    got=worst,
                    expected=f"at most {max_abs_error}",
                    hint="look for an operator that the exporter changed; nothing was exported",
                )
    return {"num_pairs": num_pairs, "max_abs_error_allowed": max_abs_error, "checks": rows}


def _difference(session: Session, reference: Any, batch: Arrays, setting: Sequence[str]) -> float:
    found, logits = session.run(batch, setting), reference(batch, setting)
    probabilities = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return float(np.max(np.abs([found["logits"] - logits, found["probabilities"] - probabilities])))


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
