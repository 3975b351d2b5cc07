"""Pretraining: masked reconstruction, losses of all modalities summed 1:1, and an optional contrastive term.

The contrastive term brings the modalities' latents of one pair together (InfoNCE, van den Oord et al. 2018).
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusmae.config.task import Task
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
from fusmae.training.objective import EncoderObjective

TEMPERATURE = 0.07


class Reconstructor(EncoderObjective):
    """Trains a FusMAE on batches of native-resolution pixels: AdamW with betas (0.9, 0.95)."""

    model: FusMAE
    recipe: PretrainConfig
    betas = (0.9, 0.95)

    def __init__(self, model: FusMAE, preprocess: Preprocess, recipe: PretrainConfig) -> None:
        super().__init__(model, preprocess, recipe)
        modalities, dim = tuple(model.encoder.in_chans), model.encoder.dim
        self.contrast = Contrast(modalities, dim) if recipe.contrastive_weight else None

    def masked(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Mask]]:
        """Augmented tiles `[B, C, H, W]` by modality, without a dropped one, and their masks."""
        tiles = apply_geometry(self.preprocess(batch.only(batch.present)), batch.geometry)
        return tiles, self.model.draw_masks(tiles, batch.noise)

    def loss_of(self, batch: Batch, split: str, batch_idx: int) -> Tensor:
        """Weighted sum of the terms, each of which is logged; validation has the fixed masks of epoch 0."""
        terms, (tiles, masks) = [], self.masked(batch)
        if self.recipe.reconstruction_weight:
            reconstructions = self.model(self.seen(tiles, batch), masks, truth=tiles)
            losses = {key: reconstruction_loss(found) for key, found in reconstructions.items()}
            for key, loss in losses.items():
                self.log_loss(f"{split}/loss_{key}", loss, f"{split} loss of modality {key}", batch, batch_idx)
            terms.append(self.recipe.reconstruction_weight * torch.stack(list(losses.values())).sum())
        if self.contrast is not None and len(batch.present) > 1:
            seen = self.seen(tiles, batch)
            loss = self.contrast(self.model.encoder, seen, masks, self._of_all_processes)
            self.log_loss(f"{split}/loss_contrastive", loss, f"{split} contrastive loss", batch, batch_idx)
            terms.append(self.recipe.contrastive_weight * loss)
        total = torch.stack(terms).sum()
        self.log_loss(f"{split}/loss", total, f"{split} loss", batch, batch_idx)
        return total

    def _of_all_processes(self, rows: Tensor) -> Tensor:
        # In validation processes may have different numbers of pairs, so each compares only its own.
        if ranks().num_ranks == 1 or not self.training:
            return rows
        return cast(Tensor, self.all_gather(rows, sync_grads=True)).flatten(0, 1)


class Contrast(nn.Module):
    """InfoNCE between the pooled latents of modalities, each of which is encoded alone.

    If the modalities were encoded together, they would attend to one another, and matching them would be trivial. Each
    has its own projection D → D (`dim` is the encoder's width), which is used in pretraining only.
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
        """The mean loss over all couples of two modalities or more: a float32 scalar.

        Tiles are normalised, `[B, C, H, W]`. `gather` turns the rows `[B, D]` of this process into those of all
        processes, so that each row has the rows of all processes as negatives.
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


def initial_autoencoder(section: ModelConfig, preprocessing: Preprocessing, seed: int) -> tuple[FusMAE, Checkpoint]:
    """An autoencoder and a checkpoint of its initial weights, which depend on architecture and seed alone."""
    architecture = Architecture.of(section, preprocessing)
    torch.manual_seed(seed)
    model = FusMAE(architecture)
    initial = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return model, Checkpoint(architecture, preprocessing, Task(), {}, initial)


def start_pretraining(
    section: ModelConfig, preprocessing: Preprocessing, recipe: PretrainConfig, seed: int
) -> tuple[Reconstructor, Checkpoint]:
    """The module to train, and a checkpoint of its initial weights."""
    model, initial = initial_autoencoder(section, preprocessing, seed)
    return Reconstructor(model, Preprocess(preprocessing), recipe), initial
