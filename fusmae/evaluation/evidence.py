"""Evidence while pretraining goes on: how well do nearest neighbours of the latents know the labels?"""

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, EMAWeightAveraging
from numpy.typing import NDArray

from fusmae.data.datamodule import PairDataModule
from fusmae.data.index import Split
from fusmae.evaluation.metrics import average_precisions
from fusmae.evaluation.neighbours import neighbour_probabilities
from fusmae.models.heads import pool
from fusmae.training.parallel import mean_weight
from fusmae.training.reconstruction import Reconstructor

METRIC = "validation/knn_macro_ap"


class NeighbourEvidence(Callback):
    """Logs, after each epoch, the macro AP of a kNN classifier on validation, from the mean of all tokens.

    Labels are looked at, never learned from: weights don't depend on them unless training is stopped by it.

    Args:
        data: where train and validation are.
        num_pairs: of each split, evenly spread over it.
        neighbours: k.
    """

    def __init__(self, data: PairDataModule, num_pairs: int, neighbours: int = 20) -> None:
        self.data = data
        self.num_pairs = num_pairs
        self.neighbours = neighbours

    def on_validation_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Measure and log."""
        assert isinstance(module, Reconstructor)  # noqa: S101
        (known, known_labels), (asked, labels) = self._sample(module, "train"), self._sample(module, "validation")
        found = neighbour_probabilities(known, known_labels, asked, k=self.neighbours)
        _, macro_ap = average_precisions(labels, found)
        # Every process measures the same pairs: the mean over them is the number itself.
        weight = mean_weight(1)
        module.log(METRIC, macro_ap, on_step=False, on_epoch=True, prog_bar=True, batch_size=weight, sync_dist=True)

    @torch.no_grad()
    def _sample(self, module: Reconstructor, split: Split) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Features `[N, D]` and labels `[N, K]` of some pairs."""
        encoder, reader, parts = module.model.encoder, self.data.reader(split), []
        rows = np.unique(np.linspace(0, len(reader) - 1, min(self.num_pairs, len(reader))).astype(int)).tolist()
        for batch in self.data.batches(split, rows):
            pixels = batch.only(tuple(encoder.in_chans))
            tiles = module.preprocess({name: array.to(module.device) for name, array in pixels.items()})
            parts.append(pool(encoder(tiles), "mean", tuple(encoder.in_chans)).float().cpu())
        return torch.cat(parts).numpy(), reader.labels[rows]


class StopWithoutProgress(EarlyStopping):
    """Stops when the score has not risen for so many epochs; a run that was stopped stays so when started again."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at what a resume checkpoint has counted."""
        trainer.should_stop = self.wait_count >= self.patience


class RunningMean(EMAWeightAveraging):
    """Keeps the running mean of the weights, also where a run started again has nothing left to train."""

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the mean: Lightning calls `on_train_end` only after a step."""
        self.on_train_end(trainer, pl_module)


def pretraining_callbacks(
    data: PairDataModule, *, evidence_pairs: int, patience: int, ema_decay: float
) -> list[Callback]:
    """What looks on while a model is pretrained.

    Args:
        data: where train and validation are.
        evidence_pairs: of each, for the kNN score after each epoch; 0 measures none.
        patience: epochs without a better score after which training stops; 0 never stops.
        ema_decay: keeps the running mean of the weights, which validation and the kNN score then judge; 0 is off.
    """
    # The evidence comes first: the running mean takes its weights back when validation ends.
    callbacks: list[Callback] = [NeighbourEvidence(data, evidence_pairs)] if evidence_pairs else []
    if patience:
        callbacks.append(StopWithoutProgress(METRIC, mode="max", patience=patience))
    if ema_decay:
        # Buffers are constants.
        callbacks.append(RunningMean(decay=ema_decay, use_buffers=False))
    return callbacks
