"""What trainings have in common: a loss that must be finite and is logged, AdamW, several processes."""

from typing import ClassVar

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import AdamW

from fusmae.config.training import FinetuneConfig, PretrainConfig
from fusmae.data.datamodule import Batch
from fusmae.errors import TrainingError
from fusmae.models.preprocess import Preprocess
from fusmae.training.optim import parameter_groups, scaled_lr, scheduled
from fusmae.training.parallel import mean_weight, shard_blocks


class Objective(L.LightningModule):
    """A loss per batch, which a class states as `loss_of`, for training and for validation."""

    def loss_of(self, batch: Batch, split: str, batch_idx: int) -> Tensor:
        """Compute and log the loss of one batch of `train` or `validation`."""
        raise NotImplementedError

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch, for Lightning."""
        return self.loss_of(batch, "train", batch_idx)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the loss of one batch."""
        self.loss_of(batch, "validation", batch_idx)

    def log_loss(self, name: str, loss: Tensor, what: str, batch: Batch, batch_idx: int) -> None:
        """Log the mean over an epoch's pairs of all processes, under a name like `train/loss_s1`.

        Raises:
            TrainingError: the loss is not finite; this stops the run before it reaches weights or a checkpoint. The
                message names the step and `what` it is.
        """
        if not torch.isfinite(loss).all():
            raise TrainingError(
                f"The {what} is not finite at step {self.global_step} (epoch {self.current_epoch}, batch {batch_idx}).",
                got=loss.item(),
                expected="a finite number; the last good checkpoint is kept",
                hint="lower base_lr in params.yaml, or look for extreme pixels; then `dvc repro`",
            )
        # MLflow allows no plus sign in a name.
        name, is_total = name.replace("+", "-"), name.endswith("/loss")
        weight = mean_weight(len(batch.indices))
        self.log(name, loss, on_step=False, on_epoch=True, prog_bar=is_total, batch_size=weight, sync_dist=True)


class EncoderObjective(Objective):
    """A training that changes an encoder: `model` is an autoencoder or a classifier, `recipe` has its settings."""

    betas: ClassVar[tuple[float, float]]
    """Betas of AdamW."""

    def __init__(self, model: nn.Module, preprocess: Preprocess, recipe: PretrainConfig | FinetuneConfig) -> None:
        super().__init__()
        self.model, self.preprocess, self.recipe = model, preprocess, recipe

    def configure_model(self) -> None:
        """Distribute the model's parameters if the processes share the model (`fsdp`)."""
        shard_blocks(self.model, self.device_mesh)

    def seen(self, tiles: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Tiles `[B, C, H, W]` without the resolution groups that are hidden in this batch."""
        if not batch.lacking:
            return tiles
        is_there = [item.name not in batch.lacking for item in self.preprocess.inputs]
        return self.preprocess.hide(tiles, torch.tensor([is_there], device=self.device))

    def lr_scale(self, name: str) -> float:
        """Factor on a parameter's learning rate."""
        return 1.0

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW and its schedule, as Lightning expects them."""
        recipe = self.recipe
        lr = scaled_lr(recipe.base_lr, recipe.batch_size)
        groups = parameter_groups(self, lr=lr, weight_decay=recipe.weight_decay, lr_scale=self.lr_scale)
        return scheduled(self, AdamW(groups, betas=self.betas), recipe.warmup_epochs)
