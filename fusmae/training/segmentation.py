"""Segmentation: a frozen encoder, and a light head that predicts a land-cover map from its tokens."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from fusmae.data.datamodule import Batch
from fusmae.data.pixels import NO_CLASS, map_side_px
from fusmae.models.encoder import Encoder
from fusmae.models.heads import SegmenterHead
from fusmae.models.preprocess import Preprocess
from fusmae.training.objective import Objective
from fusmae.training.optim import scheduled


class Segmenter(Objective):
    """Trains a head on tokens of a frozen encoder in eval mode, with cross-entropy over pixels that have a class.

    The encoder gets the modalities of `setting` and stays bit-identical. AdamW's learning rate falls along a cosine.
    """

    def __init__(
        self,
        encoder: Encoder,
        preprocess: Preprocess,
        *,
        setting: Sequence[str],
        learning_rate: float,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.encoder: Encoder = encoder.requires_grad_(False).eval()
        self.preprocess, self.setting = preprocess, tuple(setting)
        self.learning_rate, self.num_classes = learning_rate, num_classes
        self.head = SegmenterHead(encoder.dim, num_classes, map_side_px(preprocess.inputs), tuple(encoder.in_chans))

    def train(self, mode: bool = True) -> "Segmenter":
        """Set the head to training mode; the encoder stays in eval mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, batch: Batch) -> Tensor:
        """Logits `[B, K, H, W]`; pixels of other modalities are never read."""
        with torch.no_grad():
            latents = self.encoder(self.preprocess(batch.only(self.setting)))
        logits: Tensor = self.head(latents)
        return logits.float()

    def loss_of(self, batch: Batch, split: str, batch_idx: int) -> Tensor:
        """Loss of one batch, not augmented."""
        loss, setting = pixel_loss(self(batch), _maps_of(batch)), "+".join(self.setting)
        self.log_loss(f"{split}/loss_{setting}", loss, f"{split} segmentation loss on {setting}", batch, batch_idx)
        return loss

    def predict_step(self, batch: Batch) -> Tensor:
        """Confusion counts of each pair, `[B, K, K]` int32: true classes in rows, predicted ones in columns."""
        return pair_confusions(self(batch).argmax(dim=1), _maps_of(batch), self.num_classes)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW without weight decay."""
        optimizer = torch.optim.AdamW(self.head.parameters(), lr=self.learning_rate, weight_decay=0.0)
        return scheduled(self, optimizer, warmup_epochs=0)


def pixel_loss(logits: Tensor, maps: Tensor) -> Tensor:
    """Mean cross-entropy of logits `[B, K, H, W]` over the pixels of `maps` `[B, H, W]` that have a class.

    It is 0 where none has one, which the value `NO_CLASS` states.
    """
    # Pixels are flattened first: on images CUDA would sum them in a different order each time.
    pixels, classes = logits.movedim(1, -1).flatten(0, 2), maps.flatten()
    total = F.cross_entropy(pixels, classes, ignore_index=NO_CLASS, reduction="sum")
    # Not reduction="mean", which gives NaN for a batch in which no pixel has a class.
    return total / (maps != NO_CLASS).sum().clamp(min=1)


def pair_confusions(predicted: Tensor, maps: Tensor, num_classes: int) -> Tensor:
    """Pixels of each pair by true class (rows) and predicted class (columns): `[B, K, K]` int32.

    Predicted classes are `[B, H, W]`, and `maps` the true ones, or `NO_CLASS`. One call counts all pairs: torchmetrics,
    called per pair in deterministic mode, takes longer than the predictions.
    """
    pair = torch.arange(len(maps), device=maps.device)[:, None, None]
    cells = (pair * num_classes + maps) * num_classes + predicted
    counts = torch.bincount(cells[maps != NO_CLASS], minlength=len(maps) * num_classes**2)
    return counts.reshape(len(maps), num_classes, num_classes).int()


def _maps_of(batch: Batch) -> Tensor:
    """The batch's maps in the type that losses and metrics expect: `[B, H, W]` int64."""
    assert batch.maps is not None, "the data module was made without `with_maps`"  # noqa: S101
    return batch.maps.long()
