"""Linear probe: a frozen encoder, and one linear head a setting and learning rate, trained together."""

from collections.abc import Mapping, Sequence
from typing import cast

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from numpy.typing import NDArray
from torch import Tensor, nn

from fusmae.data.datamodule import Batch
from fusmae.models.encoder import Encoder
from fusmae.models.heads import ProbeHead, Readout, pool, readout_dim
from fusmae.models.preprocess import Preprocess
from fusmae.training.guards import refuse_non_finite
from fusmae.training.optim import scheduled

Setting = tuple[str, ...]
"""Modalities that a head is fed: ("s1", "s2"), ("s1",)."""


def setting_name(setting: Sequence[str]) -> str:
    """`s1+s2`, as tables write it."""
    return "+".join(setting)


class Prober(L.LightningModule):
    """Trains heads on features of a frozen encoder in eval mode; heads don't influence one another.

    Args:
        encoder: is left bit-identical.
        preprocess: native pixels to normalised tiles.
        settings: modalities that a head is fed.
        learning_rates: one head each, by setting.
        num_classes: K.
        readout: how tokens become one vector.
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
        """Put heads in training mode; the encoder stays in eval mode."""
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
        """Logits `[B, K]` by setting, one a learning rate."""
        features = self.features(batch)
        return {name: [head(features[name]) for head in self._candidates(name)] for name in features}

    def _candidates(self, name: str) -> list[nn.Module]:
        return list(cast(nn.ModuleList, self.heads[name]))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Sum of every head's loss: their gradients are independent."""
        total = torch.zeros((), device=self.device)
        for name, candidates in self.forward(batch).items():
            losses = [F.binary_cross_entropy_with_logits(logits, batch.labels) for logits in candidates]
            for rate, loss in zip(self.learning_rates, losses, strict=True):
                refuse_non_finite(loss, f"probe loss on {name} at learning rate {rate:g}", self, batch_idx)
            self._log_loss("train", name, torch.stack(losses).min(), batch)
            total = total + torch.stack(losses).sum()
        return total

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The best candidate's loss by setting."""
        for name, candidates in self.forward(batch).items():
            best = torch.stack(
                [F.binary_cross_entropy_with_logits(logits, batch.labels) for logits in candidates]
            ).min()
            self._log_loss("validation", name, best, batch)

    def _log_loss(self, split: str, name: str, loss: Tensor, batch: Batch) -> None:
        # MLflow admits no plus sign in a name.
        key = f"{split}/loss_{name.replace('+', '-')}"
        self.log(key, loss, on_step=False, on_epoch=True, batch_size=len(batch.indices))

    def predict_step(self, batch: Batch) -> dict[str, list[Tensor]]:
        """Logits of every head."""
        return self.forward(batch)

    @staticmethod
    def collect(batches: Sequence[Mapping[str, Sequence[Tensor]]]) -> dict[str, list[NDArray[np.float32]]]:
        """Batches of `predict_step` as logits `[N, K]` by setting, one a learning rate."""
        names = batches[0]
        return {
            name: [np.asarray(torch.cat([batch[name][at] for batch in batches])) for at in range(len(names[name]))]
            for name in names
        }

    def published(self, chosen: Mapping[str, int]) -> dict[str, Tensor]:
        """Weights of the encoder and of the chosen head of each setting, as a probe checkpoint names them."""
        weights = {f"encoder.{name}": tensor for name, tensor in self.encoder.state_dict().items()}
        for setting, at in chosen.items():
            head = self._candidates(setting)[at].state_dict()
            weights |= {f"heads.{setting}.{name}": tensor for name, tensor in head.items()}
        return weights

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW without decay, a learning rate a head."""
        groups = [
            {"params": list(head.parameters()), "lr": rate}
            for name in self.heads
            for head, rate in zip(self._candidates(name), self.learning_rates, strict=True)
        ]
        return scheduled(self, torch.optim.AdamW(groups, weight_decay=0.0), warmup_epochs=0)


def choose_heads(scores: Mapping[str, Sequence[float]]) -> dict[str, int]:
    """The best learning rate's position by setting; the smaller position wins a tie.

    Args:
        scores: validation score of each candidate, by setting.
    """
    return {name: max(range(len(values)), key=lambda at: values[at]) for name, values in scores.items()}
