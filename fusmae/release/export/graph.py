"""Exports the ONNX graph, from physical units to probabilities, and checks that it gives the same results as torch.

Upsampling and normalisation are inside the graph.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fusmae.errors import ExportError
from fusmae.inference.session import EMBEDDING, PRESENCE, Session
from fusmae.models.heads import Classifier
from fusmae.models.preprocess import Preprocess
from fusmae.release.export.operators import translations, with_onnx_attention
from fusmae.training.checkpoint import Checkpoint

# The oldest operator set at which torch's exporter makes graphs.
_EXPORTERS_OLDEST = 18

# Attributes that operator set 18 added, by operator; without them the operators of set 17 do the same.
_ADDED_IN_18 = {
    "Split": ("num_outputs",),
    "Resize": ("antialias", "keep_aspect_ratio_policy"),
    "ReduceMax": ("noop_with_empty_axes",),
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

        Arrays are one `[B, C, h, w]` float32 per input in the order of `inputs`, then presence `[B, M]`, 1 or 0.
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

    `tile_m` is the side of a tile in metres, `data` the source's name and licence, `git` commit and dirty flag now.
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
    """Trace the graph as an `onnx.ModelProto` with a dynamic batch size; operator sets `OLDEST` to `NEWEST` are known.

    The model is put in eval mode.
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
            opset_version=max(opset, _EXPORTERS_OLDEST),
            dynamo=True,
            custom_translation_table=translations(opset),
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise ExportError("torch.onnx.export gave no program.")
    return _with_operator_set(program.model_proto, opset)


def _with_operator_set(model: Any, opset: int) -> Any:
    """Convert a graph of torch's exporter to an operator set, in the oldest file format that can hold it."""
    import onnx

    (stated,) = model.opset_import
    if (stated.domain, stated.version) != ("", max(opset, _EXPORTERS_OLDEST)):
        raise ExportError(
            "torch's exporter did not convert the graph to the operator set that was asked for.",
            got=f"{stated.domain or 'ai.onnx'} {stated.version}",
            expected=max(opset, _EXPORTERS_OLDEST),
            hint="choose another export.opset",
        )
    if opset < stated.version:
        # onnx's own converter can't do this from 18 to 17.
        constants = {item.name: item for item in model.graph.initializer}
        for node in model.graph.node:
            kept = [item for item in node.attribute if item.name not in _ADDED_IN_18.get(node.op_type, ())]
            if node.op_type == "ReduceMax":  # its axes were an attribute
                axes = onnx.numpy_helper.to_array(constants[node.input.pop()]).tolist()
                kept.append(onnx.helper.make_attribute("axes", axes))
            del node.attribute[:]
            node.attribute.extend(kept)
        stated.version = opset
    # Newer file formats only add types that these graphs don't use, and runtimes refuse formats that they don't know.
    model.ir_version = min(model.ir_version, onnx.helper.find_min_ir_version_for(model.opset_import))
    return model


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
    """Compare logits and probabilities with torch's on every pair; report the largest difference by setting and size.

    `reference` computes torch's logits `[B, K]` from pixels and the modalities that are present; `read` reads pairs by
    their indices and returns arrays by input name. `settings` are the modalities that are present, in each case;
    `max_abs_error` is allowed in logits and in probabilities.

    Raises:
        ExportError: a difference is larger; the error states setting and batch size.
    """

    def difference(batch: Arrays, setting: Sequence[str]) -> float:
        found, logits = session.run(batch, setting), reference(batch, setting)
        probabilities = 1 / (1 + np.exp(-logits.astype(np.float64)))
        return float(np.max(np.abs([found["logits"] - logits, found["probabilities"] - probabilities])))

    checks, pairs = [], range(num_pairs)
    for setting, batch_size in product(settings, BATCH_SIZES):
        batches = (read(pairs[start : start + batch_size]) for start in pairs[::batch_size])
        # np.max keeps a NaN, which Python's max would drop.
        worst = float(np.max([difference(batch, setting) for batch in batches]))
        checks.append({"modalities": list(setting), "batch_size": batch_size, "max_abs_error": worst})
        if not worst <= max_abs_error:
            raise ExportError(
                f"ONNX and torch differ on {'+'.join(setting)} at batch size {batch_size}.",
                got=worst,
                expected=f"at most {max_abs_error}",
                hint="look for an operator that the exporter changed; nothing was exported",
            )
    return {"num_pairs": num_pairs, "max_abs_error_allowed": max_abs_error, "checks": checks}
