"""Exports an ONNX graph that takes physical units, and checks that it gives the same results as torch.

Upsampling and normalisation are inside the graph.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from math import isqrt
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fusmae.errors import ExportError
from fusmae.inference.devices import PROVIDERS
from fusmae.inference.session import EMBEDDING, OUTPUTS, PRESENCE, TOKENS, Session
from fusmae.modalities import by_modality
from fusmae.models.architecture import modality_settings
from fusmae.models.encoder import Encoder
from fusmae.models.heads import pool
from fusmae.models.predictors import Predictor
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


class Deployable(nn.Module, ABC):
    """Preprocessing and a model behind one positional signature, as ONNX needs it."""

    outputs: dict[str, str]  # shape and meaning of each output, by name and in order

    def __init__(self, preprocess: Preprocess, encoder: Encoder) -> None:
        super().__init__()
        self.preprocess = preprocess
        self.inputs, self.modalities = preprocess.inputs, tuple(encoder.in_chans)
        self.may_lack_groups = preprocess.preprocessing.may_lack_groups
        self.columns = tuple(item.name for item in self.inputs) if self.may_lack_groups else self.modalities
        """Names of what a column of `presence` is about: each input, or each modality."""

    @abstractmethod
    def results(self, tiles: dict[str, Tensor], presence: Tensor | None) -> dict[str, Tensor]:
        """Outputs by name; normalised tiles and `presence` are those of `Encoder.forward`.

        There is no output for a modality that is not in `tiles`.
        """

    def forward(self, *arrays: Tensor) -> tuple[Tensor, ...]:
        """The outputs in the order of `outputs`.

        Arrays are one `[B, C, h, w]` float32 per input in the order of `inputs`, then presence, 1 or 0: `[B, G]` with a
        column per input where a tile may lack resolution groups, else `[B, M]` with one per modality.
        """
        *pixels, presence = arrays
        tiles = self.preprocess({item.name: array for item, array in zip(self.inputs, pixels, strict=True)})
        present = presence > 0.5
        if self.may_lack_groups:
            tiles = self.preprocess.hide(tiles, present)
            sizes = [len(groups) for groups in self.preprocess.preprocessing.groups.values()]
            present = torch.stack([columns.any(dim=1) for columns in torch.split(present, sizes, dim=1)], dim=1)
        found = self.results(tiles, present)
        return tuple(found[name] for name in self.outputs)

    @torch.no_grad()
    def reference(self, pixels: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Torch's outputs for the arrays that a tile has: tokens of absent modalities are left out, not masked."""
        tiles = self.preprocess({name: torch.from_numpy(array) for name, array in pixels.items()})
        return {name: np.asarray(found) for name, found in self.results(tiles, None).items()}


class DeployablePredictor(Deployable):
    """Tiles to what a task asks for, and the embedding that it comes from."""

    def __init__(self, preprocess: Preprocess, predictor: Predictor) -> None:
        super().__init__(preprocess, predictor.encoder)
        # Names of a graph's nodes begin with this attribute's; they are the same as in graphs of earlier versions.
        self.classifier = predictor
        self.output, task = OUTPUTS[predictor.task.kind], predictor.task
        if self.output == "probabilities":
            function = "sigmoid" if task.kind == "multilabel" else "softmax"
            self.outputs = {"logits": "[B, K]", "probabilities": f"[B, K], {function} of logits"}
        elif task.value is None:
            self.outputs = {"map": "[B, K, h, w], probability of each class at each pixel of 10 m, rows from the north"}
        else:
            shape = "[B, 1, h, w], at each pixel of 10 m" if task.is_dense else "[B, 1]"
            self.outputs = {"value": f"{shape}, {task.value.title}"}
        meaning = "the tile as the classifier's head sees it"
        if task.is_dense:
            meaning = "mean of the tokens of all modalities that are there"
        self.outputs |= {EMBEDDING: f"[B, D], {meaning}"}

    def results(self, tiles: dict[str, Tensor], presence: Tensor | None) -> dict[str, Tensor]:
        """The answer, which `outputs` describes, with the logits of classes per tile; and the embedding `[B, D]`."""
        raw, embedding = self.classifier.raw(tiles, presence)
        found = {self.output: self.classifier.answer(raw), EMBEDDING: embedding}
        return found | ({"logits": raw} if "logits" in self.outputs else {})


class DeployableEncoder(Deployable):
    """Tiles to the mean of all tokens, and to the tokens of each modality."""

    def __init__(self, preprocess: Preprocess, encoder: Encoder) -> None:
        super().__init__(preprocess, encoder)
        self.encoder = encoder
        self.outputs = {EMBEDDING: "[B, D], mean of the tokens of all modalities that are there"} | {
            f"{TOKENS}{name}": "[B, h, w, D], one token per patch, rows from the north; 0 where the modality is absent"
            for name in self.modalities
        }

    def results(self, tiles: dict[str, Tensor], presence: Tensor | None) -> dict[str, Tensor]:
        """The embedding `[B, D]`, and tokens `[B, h, w, D]` by modality."""
        latents = self.encoder(tiles, presence=presence)
        found = {EMBEDDING: pool(latents, "mean", self.modalities)}
        for name, tokens in latents.tokens.items():
            if presence is not None:
                tokens = torch.where(presence[:, self.modalities.index(name), None, None], tokens, 0.0)
            found[f"{TOKENS}{name}"] = tokens.unflatten(1, (isqrt(tokens.shape[1]), -1))
        return found


def deployable(checkpoint: Checkpoint) -> Deployable:
    """What is exported of a checkpoint: a finetuned predictor, or the encoder of one without a head."""
    preprocess = Preprocess(checkpoint.preprocessing)
    if checkpoint.architecture.readout is None:
        return DeployableEncoder(preprocess, checkpoint.encoder().eval())
    return DeployablePredictor(preprocess, checkpoint.predictor())


def describe_graph(
    checkpoint: Checkpoint, model: Deployable, *, tile_m: int, data: str, git: Mapping[str, Any]
) -> dict[str, Any]:
    """Metadata of a graph: all that is needed to feed it, to interpret its outputs and to trace its origin.

    `model` is what is exported of the checkpoint, `tile_m` the side of a tile in metres, `data` the source's name and
    licence, `git` commit and dirty flag now.
    """
    return {
        **checkpoint.preprocessing.model_dump(mode="json"),
        "modalities": list(checkpoint.architecture.groups),
        "presence": f"one graph for every setting: input `{PRESENCE}` is 1 where a tile has what a column names",
        "presence_columns": list(model.columns),
        "tile_m": tile_m,
        "tile_px": checkpoint.architecture.tile_px,
        "classes": list(checkpoint.task.classes),
        "task": checkpoint.task.model_dump(mode="json") if checkpoint.task.num_outputs else None,
        "outputs": model.outputs,
        **_scale_of(model),
        "precision": "fp32",
        "git": dict(git),
        "trained": dict(checkpoint.provenance),
        "data": data,
    }


def _scale_of(model: Deployable) -> dict[str, float]:
    """Standard deviation of the training values, for a model of values."""
    scale = model.classifier.scale if isinstance(model, DeployablePredictor) else None
    return {} if scale is None else {"value_std": float(scale.std)}


def export_onnx(model: Deployable, *, opset: int) -> Any:
    """Trace the graph as an `onnx.ModelProto` with a dynamic batch size; operator sets `OLDEST` to `NEWEST` are known.

    The model is put in eval mode.
    """
    example = [torch.zeros(2, len(item.bands), item.side_px, item.side_px) for item in model.inputs]
    example.append(torch.ones(2, len(model.columns)))
    batch = torch.export.Dim("batch", min=1, max=4096)
    with warnings.catch_warnings():
        # The warning is about inputs that share one batch dimension, which is intended.
        warnings.filterwarnings("ignore", message="# The axis name: batch will not be used")
        program = torch.onnx.export(
            with_onnx_attention(model.eval(), opset),
            tuple(example),
            input_names=[*(item.name for item in model.inputs), PRESENCE],
            output_names=list(model.outputs),
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
    reference: Callable[[Arrays], Mapping[str, NDArray[np.float32]]],
    read: Callable[[Sequence[int]], Arrays],
    num_pairs: int,
    *,
    max_abs_error: float,
) -> dict[str, Any]:
    """Compare a graph's outputs with torch's on every pair; report the largest difference by setting and batch size.

    Settings are all modalities, each alone, and, if a tile may lack resolution groups, all without one group. All pairs
    are compared.

    Args:
        session: session of the graph.
        reference: function that computes torch's outputs by name, from the arrays of what is present.
        read: function that reads pairs by their indices, and returns arrays by input name.
        num_pairs: number of pairs.
        max_abs_error: largest absolute difference allowed in each output; of a value, in standard deviations.

    Raises:
        ExportError: a difference is larger; the error states setting and batch size.
    """
    # A value may be of any size: it is compared in standard deviations of the training values.
    scale = {"value": session.metadata["value_std"]} if session.output == "value" else {}

    def difference(batch: Arrays, lacking: str, setting: Sequence[str]) -> float:
        given = [item.name for item in session.inputs if item.modality in setting and item.name != lacking]
        pixels = {name: batch[name] for name in given}
        found, expected = session.run(pixels), reference(pixels)
        # np.max keeps a NaN, which Python's max would drop.
        return float(
            np.max([np.abs(found[name] - values).max() / scale.get(name, 1.0) for name, values in expected.items()])
        )

    every = tuple(by_modality(session.inputs))
    settings = [("", setting) for setting in modality_settings(every)]
    settings += [(name, every) for name in session.groups]
    checks, pairs = [], range(num_pairs)
    for (lacking, setting), batch_size in product(settings, BATCH_SIZES):
        batches = (read(pairs[start : start + batch_size]) for start in pairs[::batch_size])
        worst = float(np.max([difference(batch, lacking, setting) for batch in batches]))
        row = {"modalities": list(setting), "batch_size": batch_size, "max_abs_error": worst}
        checks.append(row | ({"without": lacking} if lacking else {}))
        if not worst <= max_abs_error:
            raise ExportError(
                f"ONNX and torch differ on {'+'.join(setting)}{f' without {lacking}' if lacking else ''} at batch size "
                f"{batch_size}.",
                got=worst,
                expected=f"at most {max_abs_error}",
                hint="look for an operator that the exporter changed; nothing was exported",
            )
    return {"num_pairs": num_pairs, "max_abs_error_allowed": max_abs_error, "checks": checks}


def on_every_device(session: Session, check: Callable[[Session], dict[str, Any]]) -> dict[str, Any]:
    """Run a check of parity on the CPU, and on a GPU if onnxruntime can use one.

    Args:
        session: session of the graph on the CPU.
        check: function that returns a report with `checks`, a list of rows.

    Returns:
        The report of the CPU; rows of a GPU follow its own, and name their `provider`.

    Raises:
        ExportError: a check fails; where it is that of a GPU, the error names the provider.
    """
    report, other = check(session), Session(session.path, device="auto")
    if other.device == session.device:
        return report
    provider = PROVIDERS[other.device]
    try:
        rows = [{**row, "provider": provider} for row in check(other)["checks"]]
    except ExportError as error:
        raise ExportError(f"With {provider}: {error}") from error
    return {**report, "checks": [*report["checks"], *rows]}
