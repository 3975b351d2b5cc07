"""Probabilities of published checkpoints over a whole split, with some of the modalities."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fusmae.data.datamodule import PairDataModule
from fusmae.evaluation.conditions import Condition, over_split
from fusmae.evaluation.features import CheckpointEncoder, features_of
from fusmae.evaluation.neighbours import neighbour_probabilities
from fusmae.evaluation.probe import saved_head
from fusmae.training.build import build_preprocess
from fusmae.training.checkpoint import load_checkpoint
from fusmae.training.classifiers import finetuned_classifier

Probabilities = dict[str, NDArray[Any]]
"""Probabilities `[N, K]` of test by condition."""


def frozen_probabilities(
    folder: Path, data: PairDataModule, conditions: Sequence[Condition], device: torch.device, *, neighbours: int
) -> tuple[Probabilities, Probabilities]:
    """What kNN and the probe make of the same features of a frozen encoder.

    Args:
        folder: folder of a probe checkpoint.
        data: data module with the splits train, which has the neighbours, and test.
        conditions: conditions of the input.
        device: device to run on.
        neighbours: number k of neighbours.

    Returns:
        Probabilities of kNN, then those of the probe.
    """
    checkpoint, labels = load_checkpoint(folder), np.asarray(data.reader("train").labels)
    encoder = CheckpointEncoder(checkpoint, folder, checkpoint.architecture["readout"])
    train, test = (features_of(encoder, data, split, conditions, device) for split in ("train", "test"))
    nearest = {name: neighbour_probabilities(train[name], labels, test[name], k=neighbours) for name in test}
    with torch.no_grad():
        logits = {name: saved_head(checkpoint, name)(torch.from_numpy(found)) for name, found in test.items()}
    return nearest, {name: found.sigmoid().numpy() for name, found in logits.items()}


def finetuned_probabilities(
    folder: Path, data: PairDataModule, conditions: Sequence[Condition], device: torch.device
) -> Probabilities:
    """Probabilities of a finetune checkpoint's classifier, which serves every condition."""
    checkpoint = load_checkpoint(folder)
    model, preprocess = (
        finetuned_classifier(checkpoint).to(device),
        build_preprocess(checkpoint.preprocessing).to(device),
    )
    return over_split(lambda batch, _: model(preprocess(batch.pixels)).sigmoid(), data, "test", conditions, device)
