"""Pretraining: masked reconstruction, losses of all modalities summed 1:1, and an optional contrastive term.

The contrastive term brings the modalities' latents of one pair together (InfoNCE, van den Oord et al. 2018).
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import cast

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import AdamW

from fusmae.config.training import ModelConfig, PretrainConfig
from fusmae.data.augment import apply_geometry
from fusmae.data.datamodule import Batch
from fusmae.models.architecture import Architecture
from fusmae.models.attention import initialise
from fusmae.models.encoder import Encoder
from fusmae.models.fusmae import FusMAE, reconstruction_loss
from fusmae.models.heads import pool
from fusmae.models.masking import Mask
from fusmae.models.preprocess import Preprocess, Preprocessing
from fusmae.runs.distributed import ranks
from fusmae.training.checkpoint import Checkpoint
from fusmae.training.guards import refuse_non_finite
from fusmae.training.optim import parameter_groups, scaled_lr, scheduled
from fusmae.training.parallel import mean_weight, shard_blocks

TEMPERATURE = 0.07


class Reconstructor(L.LightningModule):
    """Trains a FusMAE on batches of native-resolution pixels: AdamW with betas (0.9, 0.95)."""

    def __init__(self, model: FusMAE, preprocess: Preprocess, recipe: PretrainConfig) -> None:
        super().__init__()
        self.model, self.preprocess, self.recipe = model, preprocess, recipe
        modalities, dim = tuple(model.encoder.in_chans), model.encoder.dim
        self.contrast = Contrast(modalities, dim) if recipe.contrastive_weight else None

    def configure_model(self) -> None:
        """Distribute the model's parameters if the processes share the model (`fsdp`)."""
        shard_blocks(self.model, self.device_mesh)

    def masked(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Mask]]:
        """Augmented tiles `[B, C, H, W]` by modality, without a dropped one, and their masks."""
        tiles = apply_geometry(self.preprocess(batch.only(batch.present)), batch.geometry)
        return tiles, self.model.draw_masks(tiles, batch.noise)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch; the loss of each modality is logged."""
        return self._loss(batch, "train", batch_idx)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Loss under the fixed masks of epoch 0."""
        self._loss(batch, "validation", batch_idx)

    def _loss(self, batch: Batch, split: str, batch_idx: int) -> Tensor:
        terms, (tiles, masks) = [], self.masked(batch)
        if self.recipe.reconstruction_weight:
            losses = {key: reconstruction_loss(found) for key, found in self.model(tiles, masks).items()}
            for key, loss in losses.items():
                refuse_non_finite(loss, f"{split} loss of modality {key}", self, batch_idx)
                # MLflow allows no plus sign in a name.
                self._log(f"{split}/loss_{key.replace('+', '-')}", loss, batch)
            terms.append(self.recipe.reconstruction_weight * torch.stack(list(losses.values())).sum())
        if self.contrast is not None and len(batch.present) > 1:
            loss = self.contrast(self.model.encoder, tiles, masks, self._of_all_processes)
            refuse_non_finite(loss, f"{split} contrastive loss", self, batch_idx)
            self._log(f"{split}/loss_contrastive", loss, batch)
            terms.append(self.recipe.contrastive_weight * loss)
        total = torch.stack(terms).sum()
        self._log(f"{split}/loss", total, batch, prog_bar=True)
        return total

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
        groups = parameter_groups(self, lr=lr, weight_decay=recipe.weight_decay)
        return scheduled(self, AdamW(groups, betas=(0.9, 0.95)), recipe.warmup_epochs)


class Contrast(nn.Module):
    """InfoNCE between the pooled latents of modalities, each of which is encoded alone.

    If the modalities were encoded together, they would attend to one another, and matching them would be trivial.

    Args:
        modalities: names of the modalities, two or more.
        dim: width D of the encoder. Each modality has its own projection D → D, which is used in pretraining only.
    """

    def __init__(self, modalities: Sequence[str], dim: int) -> None:
        super().__init__()
        self.projections = nn.ModuleDict({name: nn.Linear(dim, dim) for name in modalities})
        self.apply(initialise)

    def forward(
        self,
        encoder: Encoder,
        tiles: Mapping[str, Tensor],
        masks: Mapping[str, Mask],
        gather: Callable[[Tensor], Tensor] = lambda rows: rows,
    ) -> Tensor:
        """The mean loss over all couples of modalities: a float32 scalar.

        Args:
            encoder: encoder whose latents are compared.
            tiles: normalised tiles `[B, C, H, W]` by modality, two modalities or more.
            masks: masks by modality.
            gather: function that turns the rows `[B, D]` of this process into those of all processes, so that each
                row has the rows of all processes as negatives.
        """
        views = {}
        for name, tile in tiles.items():
            latents = encoder({name: tile}, {name: masks[name]})
            projected = self.projections[name](pool(latents, "mean", tuple(encoder.in_chans)))
            views[name] = gather(F.normalize(projected.float(), dim=1))
        return torch.stack([info_nce(views[one], views[other]) for one, other in combinations(views, 2)]).mean()


def info_nce(one: Tensor, other: Tensor) -> Tensor:
    """Cross-entropy of finding each row's counterpart among all rows, averaged over both directions: a float32 scalar.

    Rows and counterparts `[B, D]` are in the same order, each of length 1; guessing by chance gives log(B).
    """
    with torch.autocast(one.device.type, enabled=False):
        similarity = one @ other.T / TEMPERATURE
    truth = torch.arange(len(one), device=one.device)
    return (F.cross_entropy(similarity, truth) + F.cross_entropy(similarity.T, truth)) / 2


def start_pretraining(
    section: ModelConfig, preprocessing: Preprocessing, recipe: PretrainConfig, seed: int
) -> tuple[Reconstructor, Checkpoint]:
    """The module to train, and a checkpoint of its initial weights, which depend on architecture and seed alone."""
    architecture = Architecture.of(section, preprocessing)
    torch.manual_seed(seed)
    model = FusMAE(architecture)
    initial = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    module = Reconstructor(model, Preprocess(preprocessing), recipe)
    return module, Checkpoint(architecture, preprocessing, (), {}, initial)
