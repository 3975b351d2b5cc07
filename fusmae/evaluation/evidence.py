"""Evidence during pretraining: how well the labels can be predicted from the latents' nearest neighbours."""

from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, EMAWeightAveraging
from numpy.typing import NDArray

from fusmae.config.task import Task
from fusmae.config.training import PretrainConfig
from fusmae.data.datamodule import PairDataModule
from fusmae.data.index import Split
from fusmae.errors import TrainingError
from fusmae.evaluation.metrics import headline, headline_of
from fusmae.evaluation.neighbours import neighbour_answers
from fusmae.models.heads import pool
from fusmae.training.parallel import mean_weight
from fusmae.training.reconstruction import Reconstructor


class NeighbourEvidence(Callback):
    """Logs, after each epoch, how well kNN predicts labels of tiles on validation; features are the mean of all tokens.

    The score uses labels, but training doesn't: weights depend on labels only if this score stops the training.
    `num_pairs` of each split are used, evenly spread over it.
    """

    def __init__(self, data: PairDataModule, num_pairs: int) -> None:
        self.data = data
        self.num_pairs = num_pairs

    def on_validation_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Measure and log the score."""
        assert isinstance(module, Reconstructor)  # noqa: S101
        (known, known_labels), (asked, labels) = self._sample(module, "train"), self._sample(module, "validation")
        found = neighbour_answers(known, known_labels, asked)
        task = self.data.task().of_tiles
        # Every process measures the same pairs, so the mean over processes is the number itself.
        weight = mean_weight(1)
        score = headline(task, labels, found)
        name = metric_of(task)
        module.log(name, score, on_step=False, on_epoch=True, prog_bar=True, batch_size=weight, sync_dist=True)

    @torch.no_grad()
    def _sample(self, module: Reconstructor, split: Split) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """Features `[N, D]` and labels `[N, K]` of some pairs."""
        encoder, reader, parts = module.model.encoder, self.data.reader(split), []
        rows = reader.spread(self.num_pairs)
        for batch in self.data.batches(split, rows):
            pixels = batch.only(tuple(encoder.in_chans))
            tiles = module.preprocess({name: array.to(module.device) for name, array in pixels.items()})
            parts.append(pool(encoder(tiles), "mean", tuple(encoder.in_chans)).float().cpu())
        return torch.cat(parts).numpy(), reader.labels[rows]


def metric_of(task: Task) -> str:
    """Name of the kNN score in the logs, such as `validation/knn_macro_ap`."""
    return f"validation/knn_{headline_of(task)}"


class StopWithoutProgress(EarlyStopping):
    """Stops when the score has not risen for `patience` epochs; a stopped run does not go on when restarted."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop at once if the resume checkpoint has already counted `patience` epochs without a rise."""
        trainer.should_stop = self.wait_count >= self.patience


class RunningMean(EMAWeightAveraging):
    """Keeps the running mean of the weights, also when a restarted run has nothing left to train."""

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the mean into the model: Lightning calls `on_train_end` only if a step was trained."""
        self.on_train_end(trainer, pl_module)


def pretraining_callbacks(data: PairDataModule, recipe: PretrainConfig) -> list[Callback]:
    """Callbacks that observe pretraining; validation and the kNN score measure the running mean if there is one.

    Without labels there is no kNN score.

    Raises:
        TrainingError: training is to stop by the score, and there are no labels.
    """
    has_labels = all(data.reader(split).has_labels for split in ("train", "validation"))
    if recipe.patience and not has_labels:
        raise TrainingError(
            "Pretraining can't stop by the kNN score, because no pair of train or of validation has a label.",
            got=f"pretrain.patience {recipe.patience}",
            expected="0",
            hint="-S pretrain.patience=0",
        )
    # The evidence comes first, because the running mean restores the trained weights at the end of validation.
    is_measured = recipe.evidence_pairs and has_labels
    callbacks: list[Callback] = [NeighbourEvidence(data, recipe.evidence_pairs)] if is_measured else []
    if recipe.patience:
        callbacks.append(StopWithoutProgress(metric_of(data.task().of_tiles), mode="max", patience=recipe.patience))
    if recipe.ema_decay:
        # Buffers are constants and need no running mean.
        callbacks.append(RunningMean(decay=recipe.ema_decay, use_buffers=False))
    return callbacks
