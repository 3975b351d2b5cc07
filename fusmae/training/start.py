"""Weights that a training starts from: what fits the new model is taken, the rest stays as it was initialised.

Tensors are matched by name. Where a tensor has a part per band (a modality's patch projection, its decoder's last
layer), these parts are matched by the bands' names, so that bands may be missing, new or in another order.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from fusmae.errors import CheckpointError, ConfigError, first_three
from fusmae.runs.tracking import Run
from fusmae.training.checkpoint import Checkpoint, load_checkpoint
from fusmae.training.checkpoint_card import START

_SIZES = ("dim", "depth", "num_heads")
_DECODER_SIZES = ("decoder_dim", "decoder_depth", "decoder_num_heads")
_BY_BAND = re.compile(r"encoder\.embed\.(?P<embed>[^.]+)\.proj\.weight|decoders\.(?P<decoder>[^.]+)\.head\.\w+")
"""Names of the tensors that have a part per band: columns of a patch projection, rows of a decoder's last layer."""


@dataclass(frozen=True)
class Start:
    """A checkpoint that a training starts from, and where it comes from."""

    checkpoint: Checkpoint
    facts: dict[str, Any]  # content of `start.json`: the reference, what it meant, SHA-256 of the weights


@dataclass(frozen=True)
class Taken:
    """The weights of a model after it took what fits from other weights.

    Each list has names of tensors; where only some bands of a tensor are meant, their names follow it in brackets.
    """

    weights: dict[str, Tensor]  # all tensors of the model by name
    taken: tuple[str, ...]  # tensors that were taken
    initialised: tuple[str, ...]  # tensors that the start lacks, or has for patches of another side
    unused: tuple[str, ...]  # tensors of the start that the model has no place for
    origin: dict[str, Any]  # content of `start.json`

    @property
    def facts(self) -> dict[str, Any]:
        """What a checkpoint's provenance states of its start."""
        lists = {"taken": self.taken, "initialised": self.initialised, "unused": self.unused}
        return self.origin | {name: list(names) for name, names in lists.items()}

    @property
    def summary(self) -> str:
        """The same in short, on three lines."""
        lines = [f"starts from {self.origin['origin']}: {len(self.taken)} tensors taken"]
        for what, names in (("initialised", self.initialised), ("left unused", self.unused)):
            lines.append(f"  {len(names)} {what}{': ' if names else ''}{first_three(names)}")
        return "\n".join(lines)


def facts_of(run: Run, taken: Taken | None) -> dict[str, Any]:
    """The provenance of a run's results, with what was taken where it started from other weights.

    This is also logged as `start.json` in the run, and printed in short.
    """
    if taken is None or not run.is_first:
        return run.facts
    Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(f"{run.facts['stage']} {taken.summary}")
    run.log_json(START, taken.facts)
    return {**run.facts, "start": taken.facts}


def read_start(folder: Path | None, reference: str) -> Start | None:
    """The weights that `fusmae start` put into a folder; None if the reference, a parameter `start`, is empty.

    Raises:
        ConfigError: there is a reference, but no folder.
        CheckpointError: the folder is absent, damaged or of another reference.
    """
    if not reference:
        return None
    if folder is None:
        raise ConfigError(
            f"The parameters say to start from {reference}, but the command names no folder of these weights.",
            expected="--start with the folder that `fusmae start` wrote",
            hint="dvc repro, which runs `fusmae start` first",
        )
    path = folder / START
    facts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if facts.get("reference") != reference:
        raise CheckpointError(
            f"{folder} does not hold the weights to start from.",
            got=facts.get("reference") or "none",
            expected=reference,
            hint="dvc repro, which runs `fusmae start` with the present params.yaml",
        )
    # Another build or project may have made these files: making them again here is no help.
    return Start(load_checkpoint(folder, hint="set `start` in params.yaml to other weights, then `dvc repro`"), facts)


def take_weights(start: Start, initial: Checkpoint) -> Taken:
    """Take from `start` what fits the model whose initial weights are given; of an encoder alone if these are its own.

    Raises:
        CheckpointError: width, depth or number of heads differ, weights are not finite, or the start's weights don't
            fit its own architecture.
    """
    source = start.checkpoint
    _require_sizes(start, initial)
    # Raises where weights are not those of the start's own architecture.
    _ = source.autoencoder() if _has_decoders(source) else source.encoder()
    _require_finite(start, initial)
    bands, other_bands = initial.preprocessing.bands, source.preprocessing.bands
    weights: dict[str, Tensor] = {}
    taken, initialised, unused = [], [], [name for name in source.weights if name not in initial.weights]
    for name, tensor in initial.weights.items():
        other, by_band = source.weights.get(name), _BY_BAND.fullmatch(name)
        if other is None:
            merged = None
        elif by_band:
            modality, axis = by_band["embed"] or by_band["decoder"], 1 if by_band["embed"] else 0
            merged = _merge_bands(tensor, other, axis, bands[modality], other_bands[modality])
        else:
            merged = _Merged(other) if other.shape == tensor.shape else None
        if merged is None:
            weights[name] = tensor
            initialised.append(name)
            unused += [name] if other is not None else []
            continue
        weights[name] = merged.tensor.to(tensor.dtype)
        taken.append(_named(name, merged.both if merged.new or merged.unused else ()))
        initialised += [_named(name, merged.new)] if merged.new else []
        unused += [_named(name, merged.unused)] if merged.unused else []
    return Taken(weights, tuple(taken), tuple(initialised), tuple(unused), start.facts)


def encoder_alone(checkpoint: Checkpoint) -> Checkpoint:
    """A checkpoint with the weights of its encoder, and no others."""
    kept = {name: tensor for name, tensor in checkpoint.weights.items() if name.startswith("encoder.")}
    return replace(checkpoint, weights=kept)


def _named(name: str, bands: Sequence[str]) -> str:
    return f"{name} [{', '.join(bands)}]" if bands else name


@dataclass(frozen=True)
class _Merged:
    """A tensor of the new model with the parts that fit; names of the bands where it has a part per band."""

    tensor: Tensor
    both: tuple[str, ...] = ()  # bands whose parts were taken
    new: tuple[str, ...] = ()  # bands whose parts stay as initialised
    unused: tuple[str, ...] = ()  # bands that the new model does not have


def _merge_bands(
    tensor: Tensor, other: Tensor, axis: int, bands: Sequence[str], other_bands: Sequence[str]
) -> _Merged | None:
    """The tensor with the other one's parts of shared bands; None if there are none, or patches have another side.

    The bands are along `axis`, with a run of an entry per pixel of a patch for each.
    """
    parts, other_parts = _parts(tensor, axis, len(bands)), _parts(other, axis, len(other_bands))
    both = tuple(band for band in bands if band in other_bands)
    if not both or parts.shape[1:] != other_parts.shape[1:]:
        return None
    merged = parts.clone()
    for band in both:
        merged[bands.index(band)] = other_parts[other_bands.index(band)]
    return _Merged(
        merged.movedim(0, axis).reshape(tensor.shape),
        both,
        new=tuple(band for band in bands if band not in both),
        unused=tuple(band for band in other_bands if band not in both),
    )


def _parts(tensor: Tensor, axis: int, num_bands: int) -> Tensor:
    """`[…, C·P·P, …]` as `[C, …, P·P, …]`."""
    shape = tensor.shape
    return tensor.reshape(*shape[:axis], num_bands, -1, *shape[axis + 1 :]).movedim(axis, 0)


def _has_decoders(checkpoint: Checkpoint) -> bool:
    return any(name.startswith("decoders.") for name in checkpoint.weights)


def _require_sizes(start: Start, initial: Checkpoint) -> None:
    source, ours = start.checkpoint.architecture, initial.architecture
    has_decoders = _has_decoders(start.checkpoint) and _has_decoders(initial)
    sizes = (*_SIZES, *(_DECODER_SIZES if has_decoders else ()))
    differing = [name for name in sizes if getattr(source, name) != getattr(ours, name)]
    if differing:
        got = {f"model.{name}": getattr(source, name) for name in differing}
        raise CheckpointError(
            f"The weights of {start.facts['origin']} are of a model of another size.",
            got=got,
            expected={f"model.{name}": getattr(ours, name) for name in differing},
            hint=f"dvc exp run {' '.join(f'-S {name}={value}' for name, value in got.items())}, or another start",
        )


def _require_finite(start: Start, initial: Checkpoint) -> None:
    bad = [
        name
        for name, tensor in start.checkpoint.weights.items()
        if name in initial.weights and not torch.isfinite(tensor).all()
    ]
    if bad:
        raise CheckpointError(
            f"The weights of {start.facts['origin']} have numbers that are NaN or infinite.",
            got=f"{len(bad)} such tensors: {first_three(bad)}",
            expected="finite numbers",
            hint="start from other weights: those of an earlier epoch or version",
        )
