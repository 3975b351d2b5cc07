"""Losses of supervised training by kind of labels; pixels without a label count for nothing."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fusmae.config.task import Task
from fusmae.config.training import SupervisedLoss
from fusmae.data.pixels import NO_CLASS

_FOCUS = 2.0
"""Exponent gamma of the focal loss, as Lin et al. 2017 chose it."""


def loss_of_classes(raw: Tensor, labels: Tensor, task: Task, loss: SupervisedLoss, weights: Tensor | None) -> Tensor:
    """Loss of logits against classes.

    Args:
        raw: logits `[B, K]`, or `[B, K, h, w]` for a segmentation.
        labels: float `[B, K]`, 1 where a tile has the class; for a segmentation `[B, h, w]` int64, or `NO_CLASS`.
        task: what is predicted.
        loss: form of the loss.
        weights: weight `[K]` of each class; None for equal weights.
    """
    if task.kind == "multilabel":
        return F.binary_cross_entropy_with_logits(raw, labels, pos_weight=weights)
    if task.kind == "multiclass":
        return cross_entropy(raw, labels.argmax(dim=1), weights, is_focal=loss == "focal")
    # Pixels are flattened first: on images CUDA would sum them in a different order each time.
    pixels, classes = raw.movedim(1, -1).flatten(0, 2), labels.flatten()
    entropy = cross_entropy(pixels, classes, weights, is_focal=loss == "focal")
    return entropy + dice_loss(pixels, classes) if loss == "dice" else entropy


def cross_entropy(logits: Tensor, classes: Tensor, weights: Tensor | None, *, is_focal: bool = False) -> Tensor:
    """Mean cross-entropy of logits `[N, K]` over the rows of `classes` `[N]` that have a class; 0 where none has.

    A focal loss gives each row the weight (1 − p)², where p is the probability of its class (Lin et al. 2017).
    """
    each = F.cross_entropy(logits, classes, weight=weights, ignore_index=NO_CLASS, reduction="none")
    known = classes != NO_CLASS
    if is_focal:
        chances = torch.softmax(logits, dim=1).gather(1, torch.where(known, classes, 0)[:, None])[:, 0]
        each = each * (1 - chances) ** _FOCUS
    # The mean weight, as torch's own reduction takes it, which gives NaN where no row has a class.
    own = known.to(each.dtype) if weights is None else torch.where(known, weights[torch.where(known, classes, 0)], 0.0)
    return each.sum() / own.sum().clamp(min=torch.finfo(each.dtype).tiny)


def dice_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """One minus the mean Dice coefficient of the classes that occur in `classes` `[N]`; 0 where none does.

    Probabilities of logits `[N, K]` count in place of predicted classes (Milletari et al. 2016, without squares).
    """
    known = classes != NO_CLASS
    chances = torch.where(known[:, None], torch.softmax(logits, dim=1), 0.0)
    truth = F.one_hot(torch.where(known, classes, 0), logits.shape[1]) * known[:, None]
    sizes, shared = truth.sum(dim=0), (chances * truth).sum(dim=0)
    occurs = sizes > 0
    dice = torch.where(occurs, 2 * shared / (chances.sum(dim=0) + sizes).clamp(min=1e-6), 0.0)
    return torch.where(occurs.any(), 1 - dice.sum() / occurs.sum().clamp(min=1), 0.0)


def loss_of_values(raw: Tensor, standard: Tensor) -> Tensor:
    """Mean Huber loss of standardised numbers of one shape, over those that are known; NaN is no value.

    It grows with the square up to one standard deviation, and linearly beyond, so that outliers don't rule.
    """
    known = torch.isfinite(standard)
    each = F.huber_loss(raw, torch.where(known, standard, raw.detach()), reduction="none")
    return each.sum() / known.sum().clamp(min=1)
