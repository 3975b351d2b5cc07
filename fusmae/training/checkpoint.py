"""Published checkpoints, and the models in them: weights as safetensors, everything else as JSON; no pickle."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fusmae.config.task import Task
from fusmae.config.training import ModelConfig, Readout
from fusmae.errors import CheckpointError
from fusmae.files import file_sha256, write_json, written_whole
from fusmae.models.architecture import Architecture
from fusmae.models.encoder import Encoder
from fusmae.models.fusmae import FusMAE
from fusmae.models.heads import ProbeHead, readout_dim
from fusmae.models.predictors import Predictor, build_predictor
from fusmae.models.preprocess import Preprocessing
from fusmae.models.weights import load_weights
from fusmae.training.checkpoint_card import CARD, FORMAT, WEIGHTS, card_of, read_card


@dataclass(frozen=True)
class Checkpoint:
    """Weights and what is needed to use and to explain them."""

    architecture: Architecture  # switches and sizes of the model
    preprocessing: Preprocessing  # inputs and band statistics
    task: Task  # what the head predicts, with the classes in the order of its logits; without any before it is trained
    provenance: Mapping[str, Any]  # commit, inputs, seed and versions that the weights come from
    weights: Mapping[str, Tensor]  # tensors by parameter name
    # Origin of the weights for an error message: the folder that they were read from.
    where: str = field(default="this run", compare=False)

    def with_head(
        self,
        readout: Readout,
        task: Task,
        provenance: Mapping[str, Any],
        weights: Mapping[str, Tensor],
        map_px: int | None = None,
    ) -> "Checkpoint":
        """The checkpoint of this encoder after a head was trained on it, or together with it."""
        sizes = {"num_classes": task.num_outputs, "readout": readout, "map_px": map_px}
        architecture = self.architecture.model_copy(update=sizes)
        return replace(self, architecture=architecture, task=task, provenance=provenance, weights=weights)

    def autoencoder(self) -> FusMAE:
        """The pretrained autoencoder, in eval mode.

        Raises:
            CheckpointError: the weights don't fit the architecture; so for each of these methods.
        """
        model = FusMAE(self.architecture)
        load_weights(model, self.weights, self.where)
        return model.eval()

    def encoder(self, *, drop_path: float = 0.0) -> Encoder:
        """The encoder alone; in training mode until the caller changes it."""
        encoder = Encoder(self.architecture, drop_path=drop_path)
        load_weights(encoder, part_of(self.weights, "encoder."), self.where)
        return encoder

    def predictor(self) -> Predictor:
        """The encoder and the head of a finetune checkpoint, in eval mode."""
        readout, _ = self._head()
        encoder = Encoder(self.architecture)
        model = build_predictor(self.architecture, self.task, readout, self.architecture.map_px, encoder)
        load_weights(model, self.weights, self.where)
        return model.eval()

    def probe_head(self, setting: str) -> ProbeHead:
        """The head of a probe checkpoint for one modality setting (`s1+s2`), in eval mode."""
        readout, num_classes = self._head()
        head = ProbeHead(readout_dim(self.architecture, readout), num_classes)
        load_weights(head, part_of(self.weights, f"heads.{setting}."), f"{self.where}, head {setting}")
        return head.eval()

    @property
    def readout(self) -> Readout:
        """The way in which tokens become the head's input."""
        return self._head()[0]

    def _head(self) -> tuple[Readout, int]:
        """The head's readout and number of outputs."""
        readout, num_classes = self.architecture.readout, self.architecture.num_classes
        if readout is None or num_classes is None:
            raise CheckpointError(f"The checkpoint in {self.where} has no head.", expected="one of probe or finetune")
        return readout, num_classes


def part_of(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Weights whose names start with a prefix, which is removed from the names: `part_of(weights, "encoder.")`."""
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint folder whole or not at all.

    Raises:
        StorageError: the disk is full.
    """
    task = checkpoint.task
    card = {
        "format": FORMAT,
        "architecture": checkpoint.architecture.model_dump(mode="json", exclude_none=True),
        "preprocessing": checkpoint.preprocessing.model_dump(mode="json"),
        "classes": list(task.classes),
        # Several classes per tile are stated by their names alone, as in cards before there were other kinds.
        **({} if task == Task(classes=task.classes) else {"task": task.model_dump(mode="json")}),
        "provenance": checkpoint.provenance,
    }
    with written_whole(folder) as partial:
        partial.mkdir()
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.weights.items()}
        try:
            save_file(weights, partial / WEIGHTS)
        except SafetensorError as error:
            # safetensors wraps the operating system's error in its own type; the text still contains the error number.
            raise OSError(28 if "os error 28" in str(error) else 5, str(error)) from error
        write_json(partial / CARD, {**card, "sha256": file_sha256(partial / WEIGHTS)})


def load_checkpoint(folder: Path, model: ModelConfig | None = None, *, hint: str = "") -> Checkpoint:
    """Read a checkpoint folder that `save_checkpoint` wrote, or a folder of the Hugging Face hub.

    `model` is the section of params.yaml that the model must have; None to take any. `hint` is the advice where the
    files are not a checkpoint that this build can read, in place of those for one that the pipeline made.

    Raises:
        CheckpointError: the checkpoint is absent, damaged, of another format or of another model.
    """
    weights_path = folder / WEIGHTS
    card_path = card_of(weights_path)
    card = read_card(weights_path, hint=hint)
    try:
        weights = load_file(weights_path)
    except SafetensorError as error:
        raise CheckpointError(f"{weights_path} is damaged: {error}", hint=hint or "dvc checkout --force") from error
    try:
        # Not strict: JSON has lists where tuples are meant.
        architecture = Architecture.model_validate(card.get("architecture"), strict=False)
        preprocessing = Preprocessing.model_validate(card.get("preprocessing"), strict=False)
        # Cards of older checkpoints have classes only, several per tile.
        task = Task.model_validate(card.get("task") or {"classes": card["classes"]})
    except ValidationError as error:
        raise CheckpointError(
            f"{card_path} does not describe a model that this build knows: {error.error_count()} values are wrong.",
            got=", ".join(".".join(map(str, item["loc"])) or item["msg"] for item in error.errors()[:3]),
            expected="architecture and preprocessing, as this build's checkpoints have them",
            hint=hint or "dvc checkout --force, or dvc repro --force pretrain",
        ) from error
    found, expected = architecture.model_dump(), model.model_dump() if model else {}
    differing = [key for key, value in expected.items() if found[key] != value]
    if differing:
        raise CheckpointError(
            f"The checkpoint in {folder} is of another model.",
            got={key: found[key] for key in differing},
            expected={key: expected[key] for key in differing},
            hint="set model in params.yaml as the checkpoint has it, or `dvc repro --force pretrain`",
        )
    # JSON on disk is sorted by key: the model's modalities are put in the order of their inputs.
    order = preprocessing.modalities
    if set(order) == set(architecture.groups):
        architecture = architecture.model_copy(update={"groups": {key: architecture.groups[key] for key in order}})
    return Checkpoint(architecture, preprocessing, task, card["provenance"], weights, str(folder))
