"""Training with some of the labels: encoder and head together, or a segmentation head on frozen tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray

from fusmae.config.runtime import RuntimeConfig
from fusmae.config.study import StepsConfig
from fusmae.config.training import FinetuneConfig
from fusmae.data.datamodule import Draws, PairDataModule
from fusmae.evaluation.conditions import Condition, over_split
from fusmae.models.heads import Classifier, ClassifierHead, readout_dim
from fusmae.models.preprocess import Preprocess
from fusmae.training.checkpoint import Checkpoint
from fusmae.training.optim import REFERENCE_BATCH
from fusmae.training.segmentation import Segmenter
from fusmae.training.supervised import Finetuner
from fusmae.training.trainer import build_trainer, fit

_WARMUP_SHARE = 0.1
"""Share of a finetuning's epochs that is warm-up, the same for every share of labels."""


@dataclass(frozen=True)
class Task:
    """The settings of one supervised training of the study.

    Attributes:
        shards: folder of the shards with the pairs.
        rows: rows of train whose labels are used.
        steps: number of steps, batch size and learning rate.
        draws: random draws of augmentation and modality drop.
        runtime: section `runtime` of params.yaml.
        scratch: folder for resume checkpoints.
    """

    shards: Path
    rows: NDArray[np.int64]
    steps: StepsConfig
    draws: Draws
    runtime: RuntimeConfig
    scratch: Path

    @property
    def batch_size(self) -> int:
        """Number of pairs in a batch, which is no larger than the number of pairs."""
        return min(self.steps.batch_size, len(self.rows))

    @property
    def epochs(self) -> int:
        """Number of epochs that the steps begin; the number of steps is the same for every share of labels."""
        return -(-self.steps.steps // (len(self.rows) // self.batch_size))

    def data(self, *, with_maps: bool = False) -> PairDataModule:
        """The pairs that the task trains on."""
        return PairDataModule(
            self.shards,
            batch_size=self.batch_size,
            draws=self.draws,
            train_rows=[int(row) for row in self.rows],
            with_maps=with_maps,
        )


def finetune(
    task: Task,
    checkpoint: Checkpoint,
    *,
    kind: Literal["multilabel", "multiclass"],
    num_classes: int,
    recipe: FinetuneConfig,
    is_scratch: bool,
) -> Finetuner:
    """A classifier trained from a pretraining checkpoint's weights, in eval mode.

    Args:
        task: settings of the training.
        checkpoint: pretrained or initial weights.
        kind: kind of label vector.
        num_classes: K, number of classes.
        recipe: section `finetune` of params.yaml; length and learning rate are taken from the task instead.
        is_scratch: whether the weights are random, so that every layer learns at the full rate.
    """
    changes = {
        "base_lr": task.steps.learning_rate * REFERENCE_BATCH / task.batch_size,
        "batch_size": task.batch_size,
        "epochs": task.epochs,
        "warmup_epochs": task.epochs * _WARMUP_SHARE,
        "layer_decay": 1.0 if is_scratch else recipe.layer_decay,
    }
    encoder = checkpoint.encoder(drop_path=recipe.drop_path)
    torch.manual_seed(task.draws.seed)
    head = ClassifierHead(readout_dim(encoder, recipe.readout), num_classes)
    classifier = Classifier(encoder, recipe.readout, head)
    module = Finetuner(classifier, Preprocess(checkpoint.preprocessing), recipe.model_copy(update=changes), kind=kind)
    _train(task, module, task.data())
    return module.eval()


def finetuned_probabilities(
    module: Finetuner, data: PairDataModule, conditions: Sequence[Condition], device: torch.device
) -> dict[str, NDArray[Any]]:
    """Probabilities `[N, K]` of test by condition name; one model serves all conditions."""
    module.to(device)
    return over_split(
        lambda batch, _: module.probabilities(module.model(module.preprocess(batch.pixels))),
        data,
        "test",
        conditions,
        device,
    )


def segment(task: Task, checkpoint: Checkpoint, setting: tuple[str, ...], num_classes: int) -> Segmenter:
    """A segmentation head trained on a frozen encoder's tokens, in eval mode."""
    encoder = checkpoint.encoder()
    torch.manual_seed(task.draws.seed)
    module = Segmenter(
        encoder,
        Preprocess(checkpoint.preprocessing),
        setting=setting,
        learning_rate=task.steps.learning_rate,
        num_classes=num_classes,
    )
    _train(task, module, task.data(with_maps=True))
    return module.eval()


def map_confusions(
    module: Segmenter, data: PairDataModule, conditions: Sequence[Condition], device: torch.device
) -> dict[str, NDArray[Any]]:
    """Confusion counts `[N, K, K]` of test's maps, one matrix per pair, by name of each condition in its setting."""
    module.to(device)
    own = [condition for condition in conditions if condition.setting == module.setting]
    return over_split(lambda batch, _: module.predict_step(batch), data, "test", own, device)


def _train(task: Task, module: L.LightningModule, data: PairDataModule) -> None:
    steps, seed = task.steps.steps, task.draws.seed
    trainer = build_trainer(task.runtime, task.epochs, seed, task.scratch, max_steps=steps, is_validated=False)
    fit(trainer, module, data, task.scratch)
