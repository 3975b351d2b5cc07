"""Probabilities of published checkpoints over the test split, with some of the modalities."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusmae.config.training import LabelKind
from fusmae.data.datamodule import Batch, PairDataModule
from fusmae.evaluation.conditions import Condition, over_split
from fusmae.evaluation.features import CheckpointEncoder, features_of
from fusmae.evaluation.neighbours import neighbour_probabilities
from fusmae.models.heads import Classifier
from fusmae.models.preprocess import Preprocess
from fusmae.training.checkpoint import Checkpoint

Probabilities = dict[str, NDArray[Any]]
"""Probabilities `[N, K]` of test by condition."""


@torch.no_grad()
def frozen_probabilities(
    checkpoint: Checkpoint, data: PairDataModule, conditions: Sequence[Condition], device: torch.device, neighbours: int
) -> tuple[Probabilities, Probabilities]:
    """Probabilities of kNN, whose neighbours are in train, and those of the probe, from the same frozen features.

    The checkpoint is of the stage probe, with a head for each condition's name.

    Raises:
        CheckpointError: the checkpoint has no head for one of the conditions.
    """
    encoder = CheckpointEncoder(checkpoint, checkpoint.readout)
    heads = {condition.name: checkpoint.probe_head(condition.name) for condition in conditions}
    labels = np.asarray(data.reader("train").labels)
    train = features_of(encoder, data, "train", conditions, device)
    test = features_of(encoder, data, "test", conditions, device)
    nearest = {name: neighbour_probabilities(train[name], labels, found, k=neighbours) for name, found in test.items()}
    probed = {name: heads[name](torch.from_numpy(found)).sigmoid().numpy() for name, found in test.items()}
    return nearest, probed


def finetuned_probabilities(
    model: Classifier,
    preprocess: Preprocess,
    data: PairDataModule,
    conditions: Sequence[Condition],
    device: torch.device,
    kind: LabelKind = "multilabel",
) -> Probabilities:
    """Probabilities over test of a finetuned classifier in eval mode, which serves every condition.

    `preprocess` turns native pixels into the classifier's tiles; `kind` says how logits become probabilities.
    """
    model.to(device)
    preprocess.to(device)

    def predict(batch: Batch, _: Sequence[str]) -> Tensor:
        logits = model(preprocess(batch.pixels)).float()
        return torch.sigmoid(logits) if kind == "multilabel" else torch.softmax(logits, dim=1)

    return over_split(predict, data, "test", conditions, device)
