"""Exports the ONNX graph: from physical units, through upsampling and normalisation inside, to probabilities."""

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fusmae.errors import ExportError
from fusmae.files import written_whole
from fusmae.inference.session import DIGEST_KEY, EMBEDDING, METADATA_KEY, PRESENCE, digest_entry
from fusmae.modalities import ModalityInput
from fusmae.models.heads import Classifier
from fusmae.models.preprocess import Preprocess
from fusmae.release.export.operator_set import exported_at, runtime_of, with_operator_set
from fusmae.release.export.operators import with_onnx_attention
from fusmae.release.export.translation import translations
from fusmae.training.checkpoint import Checkpoint


class Deployable(nn.Module):
    """Preprocessing and classifier behind one positional signature, as ONNX needs it."""

    def __init__(self, preprocess: Preprocess, classifier: Classifier, inputs: Sequence[ModalityInput]) -> None:
        super().__init__()
        self.preprocess = preprocess
        self.classifier = classifier
        self.names = [item.name for item in inputs]
        self.modalities = [item.modality for item in inputs]

    def forward(self, *arrays: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits and probabilities `[B, K]`, and the embedding `[B, D]` that they come from.

        Args:
            arrays: one `[B, C, h, w]` float32 per input in the order of `names`, then presence `[B, M]`, 1 or 0.
        """
        *pixels, presence = arrays
        tiles = self.preprocess(dict(zip(self.names, pixels, strict=True)))
        embedding = self.classifier.embed(tiles, presence > 0.5)
        logits = self.classifier.head(embedding)
        return logits, torch.sigmoid(logits), embedding

    @torch.no_grad()
    def reference(self, batch: Mapping[str, NDArray[Any]], setting: Sequence[str]) -> NDArray[np.float32]:
        """Torch's logits `[B, K]`, to check parity: tokens of absent modalities are left out here, not masked."""
        present = {
            name: torch.from_numpy(batch[name])
            for name, modality in zip(self.names, self.modalities, strict=True)
            if modality in setting
        }
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
        **checkpoint.preprocessing,
        "modalities": list(checkpoint.architecture["groups"]),
        "presence": f"one graph for every setting: input `{PRESENCE}` [B, M] is 1 where a modality is there",
        "tile_m": tile_m,
        "tile_px": checkpoint.architecture["tile_px"],
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


def export_onnx(model: Deployable, inputs: Sequence[ModalityInput], num_modalities: int, *, opset: int) -> Any:
    """Trace the graph with a dynamic batch dimension.

    Args:
        model: the trained model; it is put in eval mode.
        inputs: arrays that it takes.
        num_modalities: M, number of columns of `presence`.
        opset: number of the ONNX operator set, `OLDEST` to `NEWEST` of `operator_set`.

    Returns:
        An `onnx.ModelProto`.
    """
    example = [torch.zeros(2, len(item.bands), item.side_px, item.side_px) for item in inputs]
    example.append(torch.ones(2, num_modalities))
    batch = torch.export.Dim("batch", min=1, max=4096)
    with warnings.catch_warnings():
        # The warning is about inputs that share one batch dimension, which is intended.
        warnings.filterwarnings("ignore", message="# The axis name: batch will not be used")
        program = torch.onnx.export(
            with_onnx_attention(model.eval(), opset),
            tuple(example),
            input_names=[*(item.name for item in inputs), PRESENCE],
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
