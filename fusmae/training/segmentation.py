"""Segmentation: a frozen encoder, and a light head that predicts a land-cover map from its tokens."""

from collections.abc import Sequence

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, jaccard_score
from torch import Tensor

from fusmae.data.datamodule import Batch
from fusmae.data.pixels import NO_CLASS, map_side_px
from fusmae.models.encoder import Encoder
from fusmae.models.heads import SegmenterHead
from fusmae.models.preprocess import Preprocess
from fusmae.training.guards import refuse_non_finite
from fusmae.training.optim import scheduled


class Segmenter(L.LightningModule):
    """Trains a head on tokens of a frozen encoder in eval mode, with cross-entropy over pixels that have a class.

    Args:
        encoder: encoder, which stays bit-identical.
        preprocess: module that turns native pixels into normalised tiles.
        setting: modalities that the encoder gets.
        learning_rate: initial learning rate of AdamW; it falls along a cosine.
        num_classes: number K of the maps' classes.
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

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch, not augmented."""
        return self._loss(batch, "train", batch_idx)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the loss of one batch."""
        self._loss(batch, "validation", batch_idx)

    def _loss(self, batch: Batch, split: str, batch_idx: int) -> Tensor:
        loss = pixel_loss(self(batch), _maps_of(batch))
        refuse_non_finite(loss, f"{split} segmentation loss on {'+'.join(self.setting)}", self, batch_idx)
        # MLflow allows no plus sign in a name.
        self.log(
            f"{split}/loss_{'-'.join(self.setting)}", loss, on_step=False, on_epoch=True, batch_size=len(batch.indices)
        )
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
    """Count pixels of each pair by true and predicted class.

    One call counts all pairs: torchmetrics, called per pair in deterministic mode, takes longer than the predictions.

    Args:
        predicted: predicted classes `[B, H, W]`.
        maps: true classes `[B, H, W]`, or `NO_CLASS`.
        num_classes: number of classes K.

    Returns:
        `[B, K, K]` int32: true classes in rows, predicted ones in columns.
    """
    pair = torch.arange(len(maps), device=maps.device)[:, None, None]
    cells = (pair * num_classes + maps) * num_classes + predicted
    counts = torch.bincount(cells[maps != NO_CLASS], minlength=len(maps) * num_classes**2)
    return counts.reshape(len(maps), num_classes, num_classes).int()


def segmentation_scores(
    confusion: NDArray[np.integer], classes: Sequence[str]
) -> tuple[dict[str, float], dict[str, float]]:
    """Scores of all pixels that have a class, counted together in `confusion` `[K, K]`, true classes in rows.

    Returns:
        Scores `miou`, the mean IoU of the classes that have a true pixel, and `accuracy`; then the IoU of each of
        these classes by name.

    Raises:
        ValueError: no pixel has a class.
    """
    present = np.flatnonzero(confusion.sum(axis=1))
    if not present.size:
        raise ValueError("no pixel has a class")
    true, predicted = (places.ravel() for places in np.indices(confusion.shape))
    pixels = confusion.ravel()
    ious = jaccard_score(true, predicted, labels=present, average=None, sample_weight=pixels)
    accuracy = accuracy_score(true, predicted, sample_weight=pixels)
    by_name = {classes[int(place)]: float(iou) for place, iou in zip(present, ious, strict=True)}
    return {"miou": float(np.mean(ious)), "accuracy": float(accuracy)}, by_name


def _maps_of(batch: Batch) -> Tensor:
    """The batch's maps in the type that losses and metrics expect: `[B, H, W]` int64."""
    assert batch.maps is not None, "the data module was made without `with_maps`"  # noqa: S101
    return batch.maps.long()
