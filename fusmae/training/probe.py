"""Linear probe: a frozen encoder and one linear head per setting and learning rate, all trained together."""

from collections.abc import Mapping, Sequence
from typing import cast

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from numpy.typing import NDArray
from torch import Tensor, nn

from fusmae.config.training import Readout
from fusmae.data.datamodule import Batch
from fusmae.models.encoder import Encoder
from fusmae.models.heads import ProbeHead, pool, readout_dim
from fusmae.models.preprocess import Preprocess
from fusmae.training.guards import refuse_non_finite
from fusmae.training.optim import scheduled

Setting = tuple[str, ...]
"""Modalities that a head gets, like ("s1", "s2") or ("s1",)."""


def setting_name(setting: Sequence[str]) -> str:
    """Name of a setting in tables, like `s1+s2`."""
    return "+".join(setting)


class Prober(L.LightningModule):
    """Trains heads on features of a frozen encoder in eval mode; heads don't influence one another.

    Args:
        encoder: encoder, which stays bit-identical.
        preprocess: module that turns native pixels into normalised tiles.
        settings: sets of modalities; each set has its own heads.
        learning_rates: learning rates of the heads; each setting has one head per learning rate.
        num_classes: number of classes K.
        readout: way in which tokens are pooled to one vector.
    """

    heads: nn.ModuleDict
    modalities: tuple[str, ...]

    def __init__(
        self,
        encoder: Encoder,
        preprocess: Preprocess,
        *,
        settings: Sequence[Setting],
        learning_rates: Sequence[float],
        num_classes: int,
        readout: Readout,
    ) -> None:
        super().__init__()
        self.encoder: Encoder = encoder.requires_grad_(False).eval()
        self.preprocess = preprocess
        self.settings = tuple(settings)
        self.learning_rates = tuple(learning_rates)
        self.readout = readout
        self.modalities = tuple(encoder.in_chans)
        width = readout_dim(encoder, readout)
        self.heads = nn.ModuleDict(
            {
                setting_name(setting): nn.ModuleList(ProbeHead(width, num_classes) for _ in learning_rates)
                for setting in settings
            }
        )

    def train(self, mode: bool = True) -> "Prober":
        """Set the heads to training mode; the encoder stays in eval mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    @torch.no_grad()
    def features(self, batch: Batch) -> dict[str, Tensor]:
        """Frozen features `[B, D]` by setting."""
        tiles = self.preprocess(batch.pixels)
        found = {setting: self.encoder({key: tiles[key] for key in setting}) for setting in self.settings}
        return {
            setting_name(setting): pool(latents, self.readout, self.modalities).float()
            for setting, latents in found.items()
        }

    def forward(self, batch: Batch) -> dict[str, list[Tensor]]:
        """Logits `[B, K]` by setting, one tensor per learning rate."""
        features = self.features(batch)
        return {name: [head(features[name]) for head in self._candidates(name)] for name in features}

    def _candidates(self, name: str) -> list[nn.Module]:
        return list(cast(nn.ModuleList, self.heads[name]))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Sum of all heads' losses; the heads' gradients are independent of one another."""
        total = torch.zeros((), device=self.device)
        for name, candidates in self.forward(batch).items():
            losses = [F.binary_cross_entropy_with_logits(logits, batch.labels) for logits in candidates]
            for rate, loss in zip(self.learning_rates, losses, strict=True):
                refuse_non_finite(loss, f"probe loss on {name} at learning rate {rate:g}", self, batch_idx)
            self._log_loss("train", name, torch.stack(losses).min(), batch)
            total = total + torch.stack(losses).sum()
        return total

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the lowest loss among each setting's heads."""
        for name, candidates in self.forward(batch).items():
            best = torch.stack(
                [F.binary_cross_entropy_with_logits(logits, batch.labels) for logits in candidates]
            ).min()
            self._log_loss("validation", name, best, batch)

    def _log_loss(self, split: str, name: str, loss: Tensor, batch: Batch) -> None:
        # MLflow allows no plus sign in a name.
        key = f"{split}/loss_{name.replace('+', '-')}"
        self.log(key, loss, on_step=False, on_epoch=True, batch_size=len(batch.indices))

    def predict_step(self, batch: Batch) -> dict[str, list[Tensor]]:
        """Logits of every head."""
        return self.forward(batch)

    @staticmethod
    def collect(batches: Sequence[Mapping[str, Sequence[Tensor]]]) -> dict[str, list[NDArray[np.float32]]]:
        """Join results of `predict_step` to logits `[N, K]` by setting, one array per learning rate."""
        names = batches[0]
        return {
            name: [np.asarray(torch.cat([batch[name][at] for batch in batches])) for at in range(len(names[name]))]
            for name in names
        }

    def published(self, chosen: Mapping[str, int]) -> dict[str, Tensor]:
        """Weights of the encoder and of each setting's chosen head, under the names that a probe checkpoint uses.

        Args:
            chosen: position of the chosen learning rate, by setting.
        """
        weights = {f"encoder.{name}": tensor for name, tensor in self.encoder.state_dict().items()}
        for setting, at in chosen.items():
            head = self._candidates(setting)[at].state_dict()
            weights |= {f"heads.{setting}.{name}": tensor for name, tensor in head.items()}
        return weights

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW without weight decay, with one learning rate per head."""
        groups = [
            {"params": list(head.parameters()), "lr": rate}
            for name in self.heads
            for head, rate in zip(self._candidates(name), self.learning_rates, strict=True)
        ]
        return scheduled(self, torch.optim.AdamW(groups, weight_decay=0.0), warmup_epochs=0)


def choose_heads(scores: Mapping[str, Sequence[float]]) -> dict[str, int]:
    """Position of the best learning rate by setting; of equally good ones, the first.

    Args:
        scores: validation score of each learning rate's head, by setting.
    """
    return {name: max(range(len(values)), key=lambda at: values[at]) for name, values in scores.items()}
