"""Finetuning: encoder and head are trained together, with several classes per pair or exactly one."""

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import AdamW

from fusmae.config.training import FinetuneConfig, LabelKind
from fusmae.data.augment import apply_geometry
from fusmae.data.datamodule import Batch
from fusmae.models.heads import Classifier, ClassifierHead, readout_dim
from fusmae.models.preprocess import Preprocess
from fusmae.training.checkpoint import Checkpoint
from fusmae.training.guards import refuse_non_finite
from fusmae.training.optim import parameter_groups, scaled_lr, scheduled
from fusmae.training.parallel import mean_weight, shard_blocks


class Finetuner(L.LightningModule):
    """Trains a Classifier: AdamW with betas (0.9, 0.999) and layer decay.

    The loss is binary cross-entropy per class for `multilabel`, and cross-entropy for `multiclass`.
    """

    def __init__(
        self, model: Classifier, preprocess: Preprocess, recipe: FinetuneConfig, kind: LabelKind = "multilabel"
    ) -> None:
        super().__init__()
        self.model, self.preprocess, self.recipe, self.kind = model, preprocess, recipe, kind

    def configure_model(self) -> None:
        """Distribute the model's parameters if the processes share the model (`fsdp`)."""
        shard_blocks(self.model, self.device_mesh)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one augmented batch, from which a modality may be dropped."""
        tiles = self.preprocess(batch.only(batch.present))
        logits = self.model(apply_geometry(tiles, batch.geometry))
        return self._loss(logits, batch, "train", batch_idx)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Loss with every modality."""
        self._loss(self.model(self.preprocess(batch.pixels)), batch, "validation", batch_idx)

    def _loss(self, logits: Tensor, batch: Batch, split: str, batch_idx: int) -> Tensor:
        if self.kind == "multilabel":
            loss = F.binary_cross_entropy_with_logits(logits.float(), batch.labels)
        else:
            loss = F.cross_entropy(logits.float(), batch.labels.argmax(dim=1))
        refuse_non_finite(loss, f"{split} loss on {'+'.join(batch.present)}", self, batch_idx)
        weight = mean_weight(len(batch.indices))
        # Logs the mean over an epoch's pairs of all processes.
        self.log(f"{split}/loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=weight, sync_dist=True)
        return loss

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with layer decay and its schedule, as Lightning expects them."""
        recipe, encoder = self.recipe, self.model.encoder

        def lr_scale(name: str) -> float:
            if not name.startswith("encoder."):
                return 1.0
            depth_from_top = encoder.num_layers - encoder.layer_of(name.removeprefix("encoder."))
            return float(recipe.layer_decay**depth_from_top)

        lr = scaled_lr(recipe.base_lr, recipe.batch_size)
        groups = parameter_groups(self.model, lr=lr, weight_decay=recipe.weight_decay, lr_scale=lr_scale)
        return scheduled(self, AdamW(groups, betas=(0.9, 0.999)), recipe.warmup_epochs)


def start_finetuning(
    start: Checkpoint, recipe: FinetuneConfig, num_classes: int, seed: int, kind: LabelKind = "multilabel"
) -> Finetuner:
    """The module to train: a checkpoint's encoder, and a head whose initial weights depend on the seed."""
    encoder = start.encoder(drop_path=recipe.drop_path)
    torch.manual_seed(seed)
    head = ClassifierHead(readout_dim(encoder, recipe.readout), num_classes)
    return Finetuner(Classifier(encoder, recipe.readout, head), Preprocess(start.preprocessing), recipe, kind)
