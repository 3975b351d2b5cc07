"""A frozen encoder as a function from pixels to features: what kNN and the probe are measured on."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fusmae.config.training import Readout
from fusmae.data.datamodule import PairDataModule
from fusmae.data.index import Split
from fusmae.evaluation.conditions import Condition, over_split
from fusmae.models.encoder import Latents
from fusmae.models.heads import pool
from fusmae.models.preprocess import Preprocess
from fusmae.training.checkpoint import Checkpoint

Features = NDArray[np.float32]
"""Features `[N, D]` of a split's pairs, in the split's order."""


class FrozenEncoder(Protocol):
    """What kNN and probe need of an encoder; its modalities are named as in the data."""

    modalities: tuple[str, ...]
    num_parameters: int

    def features(self, pixels: dict[str, Tensor], setting: Sequence[str]) -> Tensor:
        """Features `[B, D]` float32 of physical pixels `[B, C, h, w]` by input name, of the modalities in `setting`."""

    def to(self, device: torch.device) -> Any:
        """Move the encoder to a device."""


class CheckpointEncoder(nn.Module):
    """The encoder of a checkpoint of pretraining, probe or finetuning, in eval mode."""

    def __init__(self, checkpoint: Checkpoint, readout: Readout) -> None:
        super().__init__()
        self.readout = readout
        self.preprocess = Preprocess(checkpoint.preprocessing)
        self.encoder = checkpoint.encoder().requires_grad_(False)
        self.modalities = checkpoint.preprocessing.modalities
        self.num_parameters = sum(parameter.numel() for parameter in self.encoder.parameters())
        self.eval()

    def features(self, pixels: dict[str, Tensor], setting: Sequence[str]) -> Tensor:
        """See `FrozenEncoder`; where the readout has a part per modality, that of an absent one is zero."""
        return self.pooled(self.latents(pixels))

    @torch.no_grad()
    def latents(self, pixels: dict[str, Tensor]) -> Latents:
        """Latents of every patch of physical pixels `[B, C, h, w]` by input name."""
        latents: Latents = self.encoder(self.preprocess(pixels))
        return latents

    def pooled(self, latents: Latents) -> Tensor:
        """Features `[B, D]` float32 of latents."""
        return pool(latents, self.readout, tuple(self.encoder.in_chans)).float()


def features_of(
    encoder: FrozenEncoder, data: PairDataModule, split: Split, conditions: Sequence[Condition], device: torch.device
) -> dict[str, Features]:
    """Features of a split under each condition, by the condition's name."""
    encoder.to(device)
    return over_split(lambda batch, setting: encoder.features(batch.pixels, setting), data, split, conditions, device)
