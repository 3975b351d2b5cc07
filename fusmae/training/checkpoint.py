"""Published checkpoints: weights as safetensors, everything else as JSON beside them; no pickle."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fusmae.errors import CheckpointError
from fusmae.files import file_sha256, write_json, written_whole

FORMAT = 1
WEIGHTS = "model.safetensors"
CARD = "checkpoint.json"


@dataclass(frozen=True)
class Checkpoint:
    """Weights and what is needed to use and to explain them.

    Attributes:
        architecture: switches and sizes of the model, and the number of classes K where there is a head.
        preprocessing: inputs (names, bands, units, gsd) and band statistics.
        classes: class names in the order of the logits; empty before a head is trained.
        provenance: commit, inputs, seed and versions that the weights come from.
        weights: tensors by parameter name.
    """

    architecture: Mapping[str, Any]
    preprocessing: Mapping[str, Any]
    classes: tuple[str, ...]
    provenance: Mapping[str, Any]
    weights: Mapping[str, Tensor]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint folder whole or not at all.

    Raises:
        StorageError: the disk is full.
    """
    card = {
        "format": FORMAT,
        "architecture": checkpoint.architecture,
        "preprocessing": checkpoint.preprocessing,
        "classes": list(checkpoint.classes),
        "provenance": checkpoint.provenance,
    }
    with written_whole(folder) as partial:
        partial.mkdir()
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.weights.items()}
        _save_weights(weights, partial / WEIGHTS)
        write_json(partial / CARD, {**card, "sha256": file_sha256(partial / WEIGHTS)})


def _save_weights(weights: dict[str, Tensor], path: Path) -> None:
    try:
        save_file(weights, path)
    except SafetensorError as error:
        # safetensors wraps the operating system's error in its own type; the text still contains the error number.
        number = 28 if "os error 28" in str(error) else 5
        raise OSError(number, str(error)) from error


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint folder.

    Raises:
        CheckpointError: the checkpoint is absent, damaged or of another format.
    """
    card_path, weights_path = folder / CARD, folder / WEIGHTS
    for path in (card_path, weights_path):
        if not path.exists():
            raise CheckpointError(f"There is no checkpoint in {folder}: {path.name} is missing.", hint="dvc repro")
    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{card_path} is damaged: {error}", hint="dvc checkout --force") from error
    if card.get("format") != FORMAT:
        raise CheckpointError(f"{card_path} is of another format.", got=card.get("format"), expected=FORMAT)
    _order_modalities(card)
    got = file_sha256(weights_path)
    if got != card.get("sha256"):
        raise CheckpointError(
            f"The checksum of {weights_path} is wrong: it is damaged, or not the one that {CARD} describes.",
            got=got,
            expected=card.get("sha256"),
            hint="dvc checkout --force, or dvc repro --force pretrain",
        )
    try:
        weights = load_file(weights_path)
    except SafetensorError as error:
        raise CheckpointError(f"{weights_path} is damaged: {error}", hint="dvc checkout --force") from error
    return Checkpoint(
        architecture=card["architecture"],
        preprocessing=card["preprocessing"],
        classes=tuple(card["classes"]),
        provenance=card["provenance"],
        weights=weights,
    )


def _order_modalities(card: dict[str, Any]) -> None:
    """Put the model's modalities in the order of their inputs: JSON on disk is sorted by key."""
    match card:
        case {"architecture": {"groups": dict(groups)}, "preprocessing": {"inputs": list(inputs)}}:
            order = list(dict.fromkeys(item.get("modality") for item in inputs if isinstance(item, dict)))
            if set(order) == set(groups):
                card["architecture"]["groups"] = {modality: groups[modality] for modality in order}


def require_same_model(checkpoint: Checkpoint, expected: Mapping[str, Any], where: Path) -> None:
    """Refuse a checkpoint of another model before its weights are used.

    Args:
        checkpoint: checkpoint from `load_checkpoint`.
        expected: values of the architecture that must agree, by key.
        where: folder of the checkpoint, for the error message.

    Raises:
        CheckpointError: values differ; the message lists them by key.
    """
    differing = [key for key, value in expected.items() if checkpoint.architecture.get(key) != value]
    if differing:
        raise CheckpointError(
            f"The checkpoint in {where} is of another model.",
            got={key: checkpoint.architecture.get(key) for key in differing},
            expected={key: expected[key] for key in differing},
            hint="set model in params.yaml as the checkpoint has it, or `dvc repro --force pretrain`",
        )


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], where: Path | str) -> None:
    """Load weights whose names and shapes must be exactly those of the module.

    Raises:
        CheckpointError: weights are missing, left over or of another shape; the message lists them.
    """
    own = module.state_dict()
    missing, extra = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    shapes = {
        name: f"{tuple(weights[name].shape)} for {tuple(own[name].shape)}"
        for name in own.keys() & weights.keys()
        if weights[name].shape != own[name].shape
    }
    if missing or extra or shapes:
        raise CheckpointError(
            f"The weights in {where} do not fit the model.",
            got={"missing": missing[:5], "left over": extra[:5], "shapes": dict(list(shapes.items())[:5])},
            expected=f"{len(own)} tensors of the model's names and shapes",
            hint="retrain with the present params.yaml: dvc repro",
        )
    module.load_state_dict(dict(weights))
