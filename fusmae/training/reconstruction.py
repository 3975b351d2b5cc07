"""Pretraining: masked reconstruction, losses of all modalities summed 1:1, and an optional contrastive term."""

from dataclasses import dataclass
from typing import cast

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from fusmae.data.augment import apply_geometry
from fusmae.data.datamodule import Batch
from fusmae.models.fusmae import FusMAE, Reconstruction, reconstruction_loss
from fusmae.models.preprocess import Preprocess
from fusmae.runs.distributed import ranks
from fusmae.training.contrast import Contrast
from fusmae.training.guards import refuse_non_finite
from fusmae.training.optim import adamw, parameter_groups, scaled_lr, scheduled
from fusmae.training.parallel import mean_weight, shard_blocks


@dataclass(frozen=True)
class PretrainRecipe:
    """Settings of pretraining: AdamW with betas (0.9, 0.95), warm-up and half a cosine per step.

    Attributes:
        base_lr: learning rate at a batch size of 256.
        batch_size: number of pairs in a batch of all processes together.
        weight_decay: weight decay of all parameters except tokens and 1-D parameters.
        warmup_epochs: number of epochs of linear warm-up.
        reconstruction_weight: weight of the reconstruction loss; 0 decodes nothing.
        contrastive_weight: weight of the contrastive term; 0 leaves it out.
    """

    base_lr: float
    batch_size: int
    weight_decay: float
    warmup_epochs: int
    reconstruction_weight: float = 1.0
    contrastive_weight: float = 0.0


class Reconstructor(L.LightningModule):
    """Trains a FusMAE on batches of native-resolution pixels."""

    def __init__(self, model: FusMAE, preprocess: Preprocess, recipe: PretrainRecipe) -> None:
        super().__init__()
        self.model = model
        self.preprocess = preprocess
        self.recipe = recipe
        encoder = model.encoder
        self.contrast = Contrast(tuple(encoder.in_chans), encoder.dim) if recipe.contrastive_weight else None

    def configure_model(self) -> None:
        """Distribute the model's parameters if the processes share the model (`fsdp`)."""
        shard_blocks(self.model, self.device_mesh)

    def forward(self, batch: Batch) -> dict[str, Reconstruction]:
        """Mask and reconstruct a batch; a dropped modality is left out."""
        tiles = apply_geometry(self.preprocess(batch.only(batch.present)), batch.geometry)
        found: dict[str, Reconstruction] = self.model(tiles, {key: batch.noise[key] for key in tiles})
        return found

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch; the loss of each modality is logged."""
        return self._loss(batch, "train", batch_idx)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Loss under the fixed masks of epoch 0."""
        self._loss(batch, "validation", batch_idx)

    def _loss(self, batch: Batch, split: str, batch_idx: int) -> Tensor:
        terms = []
        if self.recipe.reconstruction_weight:
            losses = {key: reconstruction_loss(found) for key, found in self(batch).items()}
            for key, loss in losses.items():
                refuse_non_finite(loss, f"{split} loss of modality {key}", self, batch_idx)
                # MLflow allows no plus sign in a name.
                self._log(f"{split}/loss_{key.replace('+', '-')}", loss, batch)
            terms.append(self.recipe.reconstruction_weight * torch.stack(list(losses.values())).sum())
        if self.contrast is not None and len(batch.present) > 1:
            loss = self._contrastive_loss(self.contrast, batch)
            refuse_non_finite(loss, f"{split} contrastive loss", self, batch_idx)
            self._log(f"{split}/loss_contrastive", loss, batch)
            terms.append(self.recipe.contrastive_weight * loss)
        total = torch.stack(terms).sum()
        self._log(f"{split}/loss", total, batch, prog_bar=True)
        return total

    def _contrastive_loss(self, contrast: Contrast, batch: Batch) -> Tensor:
        tiles = apply_geometry(self.preprocess(batch.only(batch.present)), batch.geometry)
        masks = self.model.draw_masks(tiles, batch.noise)
        loss: Tensor = contrast(self.model.encoder, tiles, masks, self._of_all_processes)
        return loss

    def _of_all_processes(self, rows: Tensor) -> Tensor:
        # In validation processes may have different numbers of pairs, so each compares only its own.
        if ranks().num_ranks == 1 or not self.training:
            return rows
        return cast(Tensor, self.all_gather(rows, sync_grads=True)).flatten(0, 1)

    def _log(self, name: str, loss: Tensor, batch: Batch, *, prog_bar: bool = False) -> None:
        """Log the mean over an epoch's pairs of all processes."""
        weight = mean_weight(len(batch.indices))
        self.log(name, loss, on_step=False, on_epoch=True, prog_bar=prog_bar, batch_size=weight, sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW and its schedule, as Lightning expects them."""
        recipe = self.recipe
        lr = scaled_lr(recipe.base_lr, recipe.batch_size)
        optimizer = adamw(parameter_groups(self, lr=lr, weight_decay=recipe.weight_decay), (0.9, 0.95))
        return scheduled(self, optimizer, recipe.warmup_epochs)
