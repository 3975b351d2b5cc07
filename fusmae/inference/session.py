"""Runs an exported graph in onnxruntime: it takes arrays in physical units, and returns predictions or features."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.config.task import Kind, Task
from fusmae.errors import ExportError, InputError
from fusmae.inference.devices import Device, gpu_errors_named, open_graph
from fusmae.modalities import ModalityInput, by_modality, map_side_px

PRESENCE, EMBEDDING = "presence", "embedding"
OUTPUTS: dict[Kind, str] = {
    "multilabel": "probabilities",
    "multiclass": "probabilities",
    "segmentation": "map",
    "regression": "value",
}
"""Name of the output that answers a task, by its kind."""
TOKENS = "tokens_"
"""Prefix of the name of an output with a modality's tokens, as `tokens_s2`."""
PART = 2
"""Number of tiles that run in one call, whatever the number of threads: rounding may depend on the size of a call.

It is so small that the arrays between two operators stay in a core's cache.
"""
CUDA_PART = 32
"""As `PART`, on a GPU, whose cores need more tiles; it bounds the GPU's memory. Its speed was not measured."""

METADATA_KEY = "fusmae"
DIGEST_KEY = "fusmae_sha256"
"""Name of the property, the file's last entry, with the hexadecimal SHA-256 of all bytes before it."""
# Pixels in the model's units are far below it; the squares of far larger numbers overflow in the graph.
_MAX_PIXEL = 1e6


class Session:
    """Runs one ONNX file; the file's metadata describe the arrays that it takes.

    Attributes:
        device: `cpu` or `cuda`, where the graph runs.
        metadata: modalities, inputs (bands, units, gsd), tile side, classes, commit.
        inputs: pixel arrays that the graph takes.
        task: what the graph predicts; None for an encoder.
        classes: names of the classes; none for an encoder or a value.
        output: name of the output that answers the task: `probabilities`, `map` or `value`; "" for an encoder.
        embedding_dim: D, width of the embedding; 0 if the graph has no such output.
        groups: names of the inputs that a tile may lack while it has others of the modality; often none.
        tokens: names of the outputs with tokens `[B, h, w, D]`, by modality; only encoders have them.

    A batch is split into parts that run in parallel. Threads that share the operators of one call wait for one another
    after each operator. Therefore a batch with at least one part per thread runs each part in one thread, and a smaller
    batch uses all threads for every operator. Each of the two ways has its own copy of the weights in memory. With at
    least one part per thread, results are the same to the last bit for any number of threads. Several calls of `run` at
    the same time are fastest with `on_one_core` (benchmarks/results/serving.json).

    `num_threads` is the total number of threads, 0 that of the cores. On a GPU there is one copy of the weights, and
    the parts of a batch run one after the other, whatever the number of threads.

    Raises:
        ConfigError: there is no such device, or onnxruntime can't use it.
        ExportError: the file is not an ONNX file, has no fusmae metadata, has metadata that describe another graph, or
            was changed after it was exported.
    """

    def __init__(self, path: Path, num_threads: int = 0, device: Device | str = "cpu") -> None:
        self.path, self._num_threads = path, num_threads or os.cpu_count() or 1
        self._session, self.device = open_graph(path, self._num_threads, device)
        if self.device == "cuda":
            self._num_threads, self._part = 1, CUDA_PART
        else:
            self._part = PART
        self._single = open_graph(path, 1, "cpu")[0] if self._num_threads > 1 else self._session
        self._pool = ThreadPoolExecutor(self._num_threads, thread_name_prefix="session")
        properties = self._session.get_modelmeta().custom_metadata_map
        if METADATA_KEY not in properties:
            raise ExportError(f"{path} carries no fusmae metadata.", hint="dvc repro export")
        try:
            self.metadata: dict[str, Any] = json.loads(properties[METADATA_KEY])
            self.inputs = tuple(ModalityInput.model_validate(item) for item in self.metadata["inputs"])
            self.task = task_of(self.metadata)
            self.classes = self.task.classes if self.task else ()
            self.output = OUTPUTS[self.task.kind] if self.task else ""
            # Older versions have a column per modality.
            self._columns = tuple(self.metadata.get("presence_columns") or self.metadata["modalities"])
            self.groups = tuple(name for name in self._columns if name in self._shared_names())
            self.tokens = {} if self.task else {name: f"{TOKENS}{name}" for name in self.metadata["modalities"]}
        except (ValueError, KeyError, TypeError) as error:
            raise ExportError(
                f"{path} has fusmae metadata that can't be read: {error!r}", hint="dvc repro -f -s export"
            ) from error
        # Older versions wrote no digest.
        if "digest" in self.metadata or DIGEST_KEY in properties:
            _check_digest(path, properties.get(DIGEST_KEY, ""))
        # Shapes of all arrays, without the dimension of the batch.
        stated: dict[str, tuple[int, ...]] = {item.name: _shape(item) for item in self.inputs}
        stated[PRESENCE] = (len(self._columns),)
        stated |= self._answers()
        arrays = [*self._session.get_inputs(), *self._session.get_outputs()]
        graph = {item.name: tuple(item.shape[1:]) for item in arrays}
        # The embedding's width is the model's; a graph may lack this output.
        (self.embedding_dim,) = graph.pop(EMBEDDING, (0,))
        # So is the grid of patches.
        stated |= {name: (*graph.get(name, ())[:2], self.embedding_dim) for name in self.tokens.values()}
        if graph != stated:
            raise ExportError(
                f"{path} has metadata of another graph.",
                got=f"arrays of the graph {dict(sorted(graph.items() - stated.items()))}",
                expected=f"as its metadata say {dict(sorted(stated.items() - graph.items()))}",
                hint="dvc repro -f -s export; never edit metadata by hand",
            )

    @property
    def settings(self) -> list[tuple[str, ...]]:
        """Every combination of modalities that the graph accepts, the one with all of them first."""
        known = self.metadata["modalities"]
        return [chosen for size in range(len(known), 0, -1) for chosen in combinations(known, size)]

    def require_inputs(self, inputs: Sequence[ModalityInput], what: str) -> None:
        """Refuse arrays of data, named `what` in the error, that lack one of the graph's, equal in every field.

        Raises:
            InputError: an array of the graph is missing or differs.
        """
        if not set(self.inputs) <= set(inputs):
            raise InputError(
                f"{what} holds other bands than the model takes.",
                got=_listed(inputs),
                expected=_listed(self.inputs),
                hint="bring the data set that the model was trained on, or one made with the same `modalities`",
            )

    def require_task(self, label: str) -> Task:
        """What the graph predicts; an encoder is refused, whose name in the error is `label`.

        Raises:
            ExportError: the graph is an encoder.
        """
        if self.task is None:
            raise ExportError(
                f"{label} is an encoder: it gives embeddings, but predicts nothing.",
                expected="the graph of a finetuned model",
                hint="name such a model, as fusmae@champion; `fusmae embed` and `/embed` give embeddings",
            )
        return self.task

    def require_embedding(self, label: str) -> None:
        """Refuse a graph without an output of embeddings; `label` names the model in the error.

        Raises:
            ExportError: the graph was exported by an older version.
        """
        if not self.embedding_dim:
            raise ExportError(
                f"{label} gives no embedding: it was exported by an older version.",
                expected=f"an output `{EMBEDDING}` [B, D]",
                hint="export again: dvc repro export register",
            )

    def run(
        self,
        pixels: Mapping[str, NDArray[Any]],
        modalities: Sequence[str] | None = None,
        *,
        outputs: Sequence[str] | None = None,
        on_one_core: bool = False,
    ) -> dict[str, NDArray[np.float32]]:
        """Run a batch.

        Args:
            pixels: `[B, C, h, w]` by input name, in physical units; a missing modality's arrays may be left out.
            modalities: modalities that are present; None for those whose arrays are given.
            outputs: names of the outputs to compute; None for all.
            on_one_core: whether to compute in the calling thread alone.

        Returns:
            By kind of the task `logits` and `probabilities`, both `[B, K]`; `map`, probabilities `[B, K, h, w]` per
            pixel of 10 m; or `value` `[B, 1]` or `[B, 1, h, w]` in its unit; and `embedding` `[B, D]` where the graph
            gives it. Of an encoder `embedding` and tokens `[B, h, w, D]` by modality, named as in `tokens`.

        Raises:
            InputError: there is no modality, one is unknown, an array is missing or has a wrong shape, or pixels are
                NaN, infinite or too large for their units.
            ConfigError: the GPU can't run the batch, as with too little memory.
        """
        present = self.check(pixels, modalities)
        batch = len(next(iter(pixels.values())))
        feeds = {
            item.name: np.asarray(pixels[item.name], np.float32)
            if item.modality in present and item.name in pixels
            else np.zeros((batch, *_shape(item)), np.float32)
            for item in self.inputs
        }
        known = {*present, *(item.name for item in self.inputs if item.modality in present and item.name in pixels)}
        row = [float(name in known) for name in self._columns]
        feeds[PRESENCE] = np.tile(np.array(row, np.float32), (batch, 1))
        names = outputs or [output.name for output in self._session.get_outputs()]
        starts = range(0, batch, self._part)
        parts = [{name: array[start : start + self._part] for name, array in feeds.items()} for start in starts]
        session = self._single if on_one_core or len(parts) >= self._num_threads else self._session
        if on_one_core or len(parts) < 2 or self._num_threads < 2:
            with gpu_errors_named(self.device):
                found = [session.run(names, part) for part in parts]
        else:
            found = list(self._pool.map(lambda part: session.run(names, part), parts))
        return {name: np.concatenate(arrays) for name, arrays in zip(names, zip(*found, strict=True), strict=True)}

    def check(self, pixels: Mapping[str, NDArray[Any]], modalities: Sequence[str] | None = None) -> tuple[str, ...]:
        """Refuse arrays that `run` can't take, with its errors; returns the modalities that are present."""
        return check_arrays(self.inputs, pixels, modalities, may_lack_groups=bool(self.groups))

    def _answers(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the outputs that the task has, by name, without the dimension of the batch."""
        if self.task is None:
            return {}
        side_px = map_side_px(self.inputs)
        shape = (self.task.num_outputs, *((side_px, side_px) if self.task.is_dense else ()))
        return dict.fromkeys((self.output, *(["logits"] if self.output == "probabilities" else [])), shape)

    def _shared_names(self) -> set[str]:
        """Names of the inputs of modalities that have several."""
        return {item.name for items in by_modality(self.inputs).values() if len(items) > 1 for item in items}


def task_of(metadata: Mapping[str, Any]) -> Task | None:
    """What a graph predicts by its metadata; None for an encoder.

    Metadata of older versions state no task: a graph that has classes may have several per tile.
    """
    if "task" in metadata:
        return Task.model_validate(metadata["task"]) if metadata["task"] else None
    return Task(classes=tuple(metadata["classes"])) if metadata["classes"] else None


def check_arrays(
    inputs: Sequence[ModalityInput],
    pixels: Mapping[str, Any],
    modalities: Sequence[str] | None = None,
    *,
    may_lack_groups: bool = False,
) -> tuple[str, ...]:
    """Refuse arrays or tensors `[B, C, h, w]` that a model with these inputs can't take; returns what is present.

    `may_lack_groups` is whether one array of a modality is enough; the other arguments are those of `Session.run`.

    Raises:
        InputError: see `Session.run`.
    """
    known = tuple(by_modality(inputs))
    present = set(modalities) if modalities is not None else {item.modality for item in inputs if item.name in pixels}
    if not present or not present <= set(known):
        raise InputError(
            "A tile needs one modality at least, and known ones only.",
            got=f"modalities {sorted(present)} with arrays {sorted(pixels)}",
            expected=f"some of {list(known)} with arrays {[item.name for item in inputs]}",
        )
    counts = {len(array) for array in pixels.values()}
    for item in inputs:
        if item.modality not in present:
            continue
        if item.name not in pixels:
            if may_lack_groups and any(other.name in pixels for other in inputs if other.modality == item.modality):
                continue
            raise InputError(
                f"Array {item.name} is missing.",
                got=sorted(pixels),
                expected=f"{item.name} {item.bands}",
                hint=f"give all arrays of {item.modality}, or none; a model that is trained with pretrain.group_drop "
                "above 0 takes some of them",
            )
        values = pixels[item.name]
        if tuple(values.shape[1:]) != _shape(item) or len(counts) > 1:
            raise InputError(
                f"Array {item.name} has a wrong shape.",
                got={name: tuple(array.shape) for name, array in pixels.items()},
                expected=f"[B, {', '.join(map(str, _shape(item)))}] with the same B in every array",
            )
        if isinstance(values, np.ndarray):
            # In float32, as in the graph: numbers that are too large become infinite.
            with np.errstate(over="ignore"):
                values = np.asarray(values, np.float32)
        # If any pixel is NaN, so are minimum and maximum; this check creates no further array.
        if len(values) and not (values.min() > -_MAX_PIXEL and values.max() < _MAX_PIXEL):
            raise InputError(
                f"Array {item.name} has NaN or infinite pixels, or some beyond {_MAX_PIXEL:g}.",
                expected=f"finite numbers in {item.units}",
                hint=f"fill them, or leave {item.modality} out",
            )
    return tuple(name for name in known if name in present)


def digest_entry(digest: str) -> bytes:
    """The ONNX file's last bytes, which hold the digest: one more entry of its properties (protobuf's field 14)."""
    pair = b"".join(bytes([0x08 * n + 2, len(text)]) + text.encode() for n, text in ((1, DIGEST_KEY), (2, digest)))
    return bytes([0x08 * 14 + 2, len(pair)]) + pair


def _check_digest(path: Path, stated: str) -> None:
    with path.open("rb") as file:
        length, content = path.stat().st_size - len(digest_entry(stated)), hashlib.sha256()
        while length > 0 and (piece := file.read(min(length, 2**20))):
            content.update(piece)
            length -= len(piece)
    if content.hexdigest() != stated:
        raise ExportError(
            f"{path} was changed or damaged after it was exported.",
            got=f"SHA-256 {content.hexdigest()} of its content",
            expected=f"SHA-256 {stated or '(the entry is missing)'}, as the file itself says",
            hint="copy it again from where it came from, or export it again: dvc repro -f -s export",
        )


def _listed(inputs: Sequence[ModalityInput]) -> str:
    return "; ".join(f"{item.name} [{item.side_px} px, {item.units}] {', '.join(item.bands)}" for item in inputs)


def _shape(item: ModalityInput) -> tuple[int, int, int]:
    return len(item.bands), item.side_px, item.side_px
