"""Tiny shards, predictors and graphs of every kind of labels, over the tiles of the tiny dataset.

Bright patches of `s2` are of one class, or have a high value; so each kind can be learned in seconds.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fusmae.config.task import Task, Value
from fusmae.data.index import Pair
from fusmae.data.pixels import NO_CLASS
from fusmae.data.shard_writer import Maps, write_shards
from fusmae.data.shards import Origin
from fusmae.modalities import ModalityInput, map_side_px
from fusmae.models.encoder import Encoder
from fusmae.models.predictors import Predictor, build_predictor
from fusmae.models.preprocess import Preprocessing
from fusmae.release.export.graph import deployable, describe_graph, export_onnx
from fusmae.release.export.onnx_file import save_onnx
from fusmae.training.checkpoint import Checkpoint
from tests.sections import architecture_of

CLASSES = ("dark", "bright", "absent")
BIOMASS = Value(name="biomass", unit="t/ha", min=0)
TASKS = {
    "multilabel": Task(classes=CLASSES),
    "multiclass": Task(kind="multiclass", classes=CLASSES),
    "segmentation": Task(kind="segmentation", classes=CLASSES),
    "tile value": Task(kind="regression", value=BIOMASS),
    "pixel value": Task(kind="regression", value=BIOMASS.model_copy(update={"per": "pixel"})),
}
"""A task of each kind, and of both forms of a regression."""
DENSE = tuple(name for name, task in TASKS.items() if task.is_dense)
SIDE_PX = 24
SCALE = {0: 0.5, 1: 1.5}
"""Factor on the bands of `s2` by class."""
HIGH, LOW = 180.0, 60.0
"""Biomass of bright and of dark pixels, in t/ha."""


def class_map(pair: Pair) -> NDArray[np.uint8]:
    """Which pixels are bright: the left third, or the rest; the first row has no class."""
    found = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    found[:, :8] = sum(pair.key.encode()) % 2
    found[:, 8:] = 1 - found[0, 0]
    found[0] = NO_CLASS
    return found


def value_map(pair: Pair) -> NDArray[np.float32]:
    """Biomass of the same pixels; the first row has none."""
    classes = class_map(pair)
    return np.where(classes == NO_CLASS, np.nan, np.where(classes == 1, HIGH, LOW)).astype(np.float32)


def labelled(pair: Pair, task: Task) -> Pair:
    """The pair with labels of a tile as the task has them: the class, or the value, of most of its pixels."""
    is_bright = bool(class_map(pair)[1, -1])
    changes: dict[str, Any] = {"labels": ()}
    if task.kind == "multilabel":
        changes = {"labels": CLASSES[:2] if is_bright else CLASSES[:1]}
    elif task.kind == "multiclass":
        changes = {"labels": (CLASSES[int(is_bright)],)}
    elif not task.is_dense:
        changes = {"value": HIGH if is_bright else LOW}
    return replace(pair, **changes)


def write_kind(folder: Path, name: str, pairs: Sequence[Pair], read_pair: Any, inputs: Any) -> Path:
    """Write shards of the task `name`; returns their folder."""
    task = TASKS[name]

    def read(pair: Pair) -> dict[str, NDArray[Any]]:
        factor = np.where(class_map(pair) == 1, SCALE[1], SCALE[0])
        bands = dict(read_pair(pair))
        return bands | {band: np.rint(bands[band] * factor).astype(np.uint16) for band in ("B02", "B03", "B04")}

    maps = {"segmentation": Maps(CLASSES, class_map), "pixel value": Maps((), value_map)}.get(name)
    own = [labelled(pair, task) for pair in pairs]
    origin = Origin("made", "free to use")
    write_shards(own, read, folder, inputs=inputs, task=task, shard_pairs=7, maps=maps, origin=origin)
    return folder


def map_px_of(task: Task, inputs: Sequence[ModalityInput]) -> int | None:
    return map_side_px(tuple(inputs)) if task.is_dense else None


def make_predictor(name: str, preprocessing: Preprocessing, *, seed: int = 0, **changes: Any) -> Predictor:
    """An untrained predictor in eval mode, whose answers differ from pixel to pixel, and from tile to tile."""
    torch.manual_seed(seed)
    task, architecture = TASKS[name], architecture_of(preprocessing, **changes)
    predictor = build_predictor(
        architecture, task, "mean", map_px_of(task, preprocessing.inputs), Encoder(architecture)
    )
    with torch.no_grad():
        for parameter in predictor.head.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    if predictor.scale is not None:
        predictor.scale.mean.fill_(120.0)
        predictor.scale.std.fill_(60.0)
    return predictor.eval()


def checkpoint_of(name: str, preprocessing: Preprocessing, **changes: Any) -> Checkpoint:
    """A checkpoint as the stage finetune writes it."""
    task, architecture = TASKS[name], architecture_of(preprocessing, **changes)
    predictor = make_predictor(name, preprocessing, **changes)
    provenance = {"stage": "finetune-pretrained", "seed": 0}
    start = Checkpoint(architecture, preprocessing, Task(), provenance, {})
    return start.with_head("mean", task, provenance, predictor.state_dict(), map_px_of(task, preprocessing.inputs))


def export_kind(path: Path, name: str, preprocessing: Preprocessing, *, opset: int = 17, **changes: Any) -> Path:
    """Export an untrained predictor as the stage export does; returns the ONNX file."""
    checkpoint = checkpoint_of(name, preprocessing, **changes)
    model = deployable(checkpoint)
    facts = describe_graph(checkpoint, model, tile_m=240, data="made: free to use.", git={"commit": None})
    save_onnx(export_onnx(model, opset=opset), facts, path)
    return path
