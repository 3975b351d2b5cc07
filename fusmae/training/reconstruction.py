"""Pretraining: masked reconstruction of every modality, summed 1:1."""

from dataclasses import dataclass

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from fusmae.data.augment import apply_geometry
from fusmae.data.datamodule import Batch
from fusmae.models.fusmae import FusMAE, Reconstruction, reconstruction_loss
from fusmae.models.preprocess import Preprocess
from fusmae.training.guards import refuse_non_finite
from fusmae.training.optim import adamw, parameter_groups, scaled_lr, scheduled
from fusmae.training.parallel import mean_weight, shard_blocks


@dataclass(frozen=True)
class PretrainRecipe:
    """AdamW (.9, .95), warm-up and half-cosine per step.

    Attributes:
        base_lr: learning rate at batch 256.
        batch_size: pairs in a batch of all processes together.
        weight_decay: not on 1-D parameters.
        warmup_epochs: of linear warm-up.
    """

    base_lr: float
    batch_size: int
    weight_decay: float
    warmup_epochs: int


class Reconstructor(L.LightningModule):
    """Trains a FusMAE on batches of native-resolution pixels."""

    def __init__(self, model: FusMAE, preprocess: Preprocess, recipe: PretrainRecipe) -> None:
        super().__init__()
        self.model = model
        self.preprocess = preprocess
        self.recipe = recipe

    def configure_model(self) -> None:
        """Share the model out where processes do (`fsdp`)."""
        shard_blocks(self.model, self.device_mesh)

    def forward(self, batch: Batch) -> dict[str, Reconstruction]:
        """Mask and reconstruct a batch; a dropped modality is left out."""
        tiles = apply_geometry(self.preprocess(batch.only(batch.present)), batch.geometry)
        found: dict[str, Reconstruction] = self.model(tiles, {key: batch.noise[key] for key in tiles})
        return found

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch; each modality's is logged."""
        return self._loss(batch, "train", batch_idx)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Loss under the fixed masks of epoch 0."""
        self._loss(batch, "validation", batch_idx)

    def _loss(self, batch: Batch, split: str, batch_idx: int) -> Tensor:
        losses = {key: reconstruction_loss(found) for key, found in self(batch).items()}
        for key, loss in losses.items():
            refuse_non_finite(loss, f"{split} loss of modality {key}", self, batch_idx)
            self._log(f"{split}/loss_{key}", loss, batch)
        total = torch.stack(list(losses.values())).sum()
        self._log(f"{split}/loss", total, batch, prog_bar=True)
        return total

    def _log(self, name: str, loss: Tensor, batch: Batch, *, prog_bar: bool = False) -> None:
        """The mean over an epoch's pairs, of all processes."""
        weight = mean_weight(len(batch.indices))
        self.log(name, loss, on_step=False, on_epoch=True, prog_bar=prog_bar, batch_size=weight, sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW and its schedule, as Lightning wants them."""
        recipe = self.recipe
        lr = scaled_lr(recipe.base_lr, recipe.batch_size)
        optimizer = adamw(parameter_groups(self.model, lr=lr, weight_decay=recipe.weight_decay), (0.9, 0.95))
        return scheduled(self, optimizer, recipe.warmup_epochs)
