"""Probabilities of published checkpoints over the test split, with some of the modalities."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fusmae.data.datamodule import PairDataModule
from fusmae.evaluation.conditions import Condition, over_split
from fusmae.evaluation.features import CheckpointEncoder, features_of
from fusmae.evaluation.neighbours import neighbour_probabilities
from fusmae.models.preprocess import Preprocess
from fusmae.training.checkpoint import Checkpoint

Probabilities = dict[str, NDArray[Any]]
"""Probabilities `[N, K]` of test by condition."""


@torch.no_grad()
def frozen_probabilities(
    checkpoint: Checkpoint,
    data: PairDataModule,
    conditions: Sequence[Condition],
    device: torch.device,
    *,
    neighbours: int,
) -> tuple[Probabilities, Probabilities]:
    """What kNN and the probe make of the same features of a frozen encoder.

    Args:
        checkpoint: checkpoint of the stage probe.
        data: data module with the splits train, which has the neighbours, and test.
        conditions: conditions of the input; the checkpoint has a head for each one's name.
        device: device to run on.
        neighbours: number k of neighbours.

    Returns:
        Probabilities of kNN, then those of the probe.

    Raises:
        CheckpointError: the checkpoint has no head for one of the conditions.
    """
    heads = {condition.name: checkpoint.probed_classifier(condition.name) for condition in conditions}
    encoder, labels = CheckpointEncoder(checkpoint, next(iter(heads.values())).readout), data.reader("train").labels
    train = features_of(encoder, data, "train", conditions, device)
    test = features_of(encoder, data, "test", conditions, device)
    nearest = {
        name: neighbour_probabilities(train[name], np.asarray(labels), found, k=neighbours)
        for name, found in test.items()
    }
    probed = {name: heads[name].head(torch.from_numpy(found)).sigmoid().numpy() for name, found in test.items()}
    return nearest, probed


def finetuned_probabilities(
    checkpoint: Checkpoint, data: PairDataModule, conditions: Sequence[Condition], device: torch.device
) -> Probabilities:
    """Probabilities of a finetune checkpoint's classifier, which serves every condition."""
    model, preprocess = checkpoint.finetuned_classifier().to(device), Preprocess(checkpoint.preprocessing).to(device)
    return over_split(lambda batch, _: model(preprocess(batch.pixels)).sigmoid(), data, "test", conditions, device)
