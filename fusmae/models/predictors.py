"""An encoder with a head, which predicts what a task asks for: per tile or per pixel, classes or a value."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fusmae.config.task import Task
from fusmae.config.training import Readout
from fusmae.models.architecture import Architecture
from fusmae.models.dense import DenseHead
from fusmae.models.encoder import Encoder
from fusmae.models.heads import ClassifierHead, pool, readout_dim


class ValueScale(nn.Module):
    """From standardised numbers, which a head gives and a loss compares, to a quantity in its unit, and back.

    Mean and standard deviation are those of the training values; they are stored with the weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, low: float | None, high: float | None) -> None:
        super().__init__()
        self.low, self.high = low, high
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))

    def forward(self, standard: Tensor) -> Tensor:
        """Values in their unit, within the limits of the quantity."""
        values = standard * self.std + self.mean
        return values if self.low is None and self.high is None else values.clamp(self.low, self.high)

    def standard(self, values: Tensor) -> Tensor:
        """Standardised numbers."""
        return (values - self.mean) / self.std


class Predictor(nn.Module, ABC):
    """An encoder without masks and a head; `encoder` and `head` name its weights.

    Attributes:
        task: what is predicted.
        scale: of a regression, from the head's numbers to values.
    """

    def __init__(self, task: Task, encoder: Encoder) -> None:
        super().__init__()
        self.task, self.encoder = task, encoder
        self.scale = ValueScale(task.value.min, task.value.max) if task.value is not None else None

    @abstractmethod
    def raw(self, tiles: dict[str, Tensor], presence: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The head's numbers and the embedding `[B, …]` of normalised tiles `[B, C, H, W]` by modality.

        The numbers are logits `[B, K]` or `[B, K, h, w]`, or standardised values with K = 1. `presence` is `[B, M]`
        bool, columns in the encoder's order; None if every row has every modality in `tiles`.
        """

    def forward(self, tiles: dict[str, Tensor], presence: Tensor | None = None) -> Tensor:
        """The head's numbers, see `raw`."""
        return self.raw(tiles, presence)[0]

    def embed(self, tiles: dict[str, Tensor], presence: Tensor | None = None) -> Tensor:
        """The embedding, see `raw`."""
        return self.raw(tiles, presence)[1]

    def answer(self, raw: Tensor) -> Tensor:
        """What the head's numbers mean: probabilities of classes, or values in their unit; of the same shape."""
        if self.scale is not None:
            return self.scale(raw)  # type: ignore[no-any-return]
        return torch.sigmoid(raw) if self.task.kind == "multilabel" else torch.softmax(raw, dim=1)


class TilePredictor(Predictor):
    """One answer per tile: a read-out of the encoder, and a linear head of width `readout_dim(encoder, readout)`."""

    def __init__(self, task: Task, encoder: Encoder, readout: Readout, head: nn.Module) -> None:
        super().__init__(task, encoder)
        self.readout, self.head = readout, head

    def raw(self, tiles: dict[str, Tensor], presence: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Numbers `[B, K]`, and the embedding `[B, readout_dim(…)]` that the head takes."""
        embedding = pool(self.encoder(tiles, presence=presence), self.readout, tuple(self.encoder.in_chans))
        return self.head(embedding), embedding


class PixelPredictor(Predictor):
    """One answer per pixel of 10 m: a dense head over the encoder's blocks and the tiles themselves."""

    def __init__(self, task: Task, encoder: Encoder, head: DenseHead) -> None:
        super().__init__(task, encoder)
        self.head = head

    def raw(self, tiles: dict[str, Tensor], presence: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Numbers `[B, K, h, w]`, and the mean `[B, D]` of all tokens."""
        latents, outputs = self.encoder.forward_blocks(tiles, self.head.blocks, presence)
        present: Mapping[str, Tensor] = {}
        if presence is not None:
            present = {name: presence[:, column] for column, name in enumerate(self.encoder.in_chans)}
        ordered = {name: tiles[name] for name in self.encoder.in_chans if name in tiles}
        return self.head(outputs, ordered, present), pool(latents, "mean", tuple(self.encoder.in_chans))


def build_predictor(
    architecture: Architecture, task: Task, readout: Readout, map_px: int | None, encoder: Encoder
) -> Predictor:
    """A predictor with a new head over an encoder of this architecture.

    `readout` is how a tile's tokens become the head's input, `map_px` the side of a map in pixels; None for tiles.
    """
    if map_px is not None:
        return PixelPredictor(task, encoder, DenseHead(architecture, map_px, task.num_outputs))
    return TilePredictor(task, encoder, readout, ClassifierHead(readout_dim(encoder, readout), task.num_outputs))
