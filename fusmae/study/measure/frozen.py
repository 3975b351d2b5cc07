"""A variant's encoder as a function from pixels to features; its weights are never changed."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fusmae.config.training import Readout
from fusmae.models.heads import pool
from fusmae.models.preprocess import Preprocess
from fusmae.rivals.rival import Rival
from fusmae.training.checkpoint import Checkpoint


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
    """The encoder of a pretraining checkpoint, in eval mode.

    Args:
        checkpoint: pretraining checkpoint.
        readout: how tokens become features.
    """

    def __init__(self, checkpoint: Checkpoint, readout: Readout) -> None:
        super().__init__()
        self.readout = readout
        self.preprocess = Preprocess(checkpoint.preprocessing)
        self.encoder = checkpoint.encoder().requires_grad_(False)
        self.modalities = checkpoint.preprocessing.modalities
        self.num_parameters = _count(self.encoder)
        self.eval()

    @torch.no_grad()
    def features(self, pixels: dict[str, Tensor], setting: Sequence[str]) -> Tensor:
        """See `FrozenEncoder`; where the readout has a part per modality, only modalities in `setting` count for D."""
        latents = self.encoder(self.preprocess(pixels))
        # Not all modalities of the encoder: the part of an absent one would be constant, and features of two single
        # modalities would lie in different dimensions, so that retrieval could not compare them.
        return pool(latents, self.readout, tuple(latents.tokens)).float()


class RivalEncoder:
    """A rival under the same protocol."""

    def __init__(self, rival: Rival) -> None:
        self.rival = rival
        self.modalities = rival.modalities
        self.num_parameters = _count(rival)

    @torch.no_grad()
    def features(self, pixels: dict[str, Tensor], setting: Sequence[str]) -> Tensor:
        """See `FrozenEncoder`."""
        found: Tensor = self.rival(pixels, tuple(setting))
        return found.float()

    def to(self, device: torch.device) -> "RivalEncoder":
        """Move the rival to a device."""
        self.rival.to(device)
        return self


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
