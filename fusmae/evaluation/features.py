"""A frozen encoder as a function from pixels to features: what kNN and the probe are measured on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fusmae.data.datamodule import PairDataModule
from fusmae.data.index import Split
from fusmae.evaluation.conditions import Condition, over_split
from fusmae.models.heads import Readout, pool
from fusmae.training.build import build_encoder, build_preprocess, inputs_of, part_of
from fusmae.training.checkpoint import Checkpoint, load_weights

Features = NDArray[np.float32]
"""Features `[N, D]` of a split's pairs, in the split's order."""


class FrozenEncoder(Protocol):
    """What kNN and probe need of an encoder.

    Attributes:
        modalities: names of the encoder's modalities, as in the data.
        num_parameters: number of parameters of the encoder alone.
    """

    modalities: tuple[str, ...]
    num_parameters: int

    def features(self, pixels: dict[str, Tensor], setting: Sequence[str]) -> Tensor:
        """Features `[B, D]` float32 of physical pixels `[B, C, h, w]` by input name, of the modalities in `setting`."""
        ...

    def to(self, device: torch.device) -> Any:
        """Move the encoder to a device."""
        ...


class CheckpointEncoder(nn.Module):
    """The encoder of a checkpoint, in eval mode.

    Args:
        checkpoint: checkpoint of pretraining, probe or finetuning.
        where: path of the checkpoint, for errors.
        readout: how tokens become features.
    """

    def __init__(self, checkpoint: Checkpoint, where: Path, readout: Readout) -> None:
        super().__init__()
        self.readout = readout
        self.preprocess = build_preprocess(checkpoint.preprocessing)
        self.encoder = build_encoder(checkpoint.architecture).requires_grad_(False)
        load_weights(self.encoder, part_of(checkpoint.weights, "encoder."), where)
        self.modalities = tuple(dict.fromkeys(item.modality for item in inputs_of(checkpoint.preprocessing)))
        self.num_parameters = sum(parameter.numel() for parameter in self.encoder.parameters())
        self.eval()

    @torch.no_grad()
    def features(self, pixels: dict[str, Tensor], setting: Sequence[str]) -> Tensor:
        """See `FrozenEncoder`; where the readout has a part per modality, that of an absent one is zero."""
        return pool(self.encoder(self.preprocess(pixels)), self.readout, tuple(self.encoder.in_chans)).float()


def features_of(
    encoder: FrozenEncoder, data: PairDataModule, split: Split, conditions: Sequence[Condition], device: torch.device
) -> dict[str, Features]:
    """Features of a split under each condition, by the condition's name."""
    encoder.to(device)
    return over_split(lambda batch, setting: encoder.features(batch.pixels, setting), data, split, conditions, device)


def device_of(accelerator: str) -> torch.device:
    """The device that measurements run on: a GPU where there is one, unless the accelerator is `cpu`."""
    return torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")
