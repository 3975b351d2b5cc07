"""Answers of published checkpoints over the test split, with some of the modalities."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusmae.data.datamodule import Batch, PairDataModule
from fusmae.evaluation.conditions import Condition, over_split
from fusmae.evaluation.features import CheckpointEncoder, features_of
from fusmae.evaluation.map_counts import count_map
from fusmae.evaluation.neighbours import neighbour_answers
from fusmae.evaluation.probe import answers_of_tiles
from fusmae.models.predictors import Predictor
from fusmae.models.preprocess import Preprocess
from fusmae.training.checkpoint import Checkpoint

Answers = dict[str, NDArray[Any]]
"""What a scorer takes of test, `[N, …]`, by condition: probabilities, values, or counts of maps."""


@torch.no_grad()
def frozen_answers(
    checkpoint: Checkpoint, data: PairDataModule, conditions: Sequence[Condition], device: torch.device, neighbours: int
) -> tuple[Answers, Answers]:
    """Answers `[N, K]` of kNN, whose neighbours are in train, and those of the probe, from the same frozen features.

    The checkpoint is of the stage probe, with a head for each condition's name.

    Raises:
        CheckpointError: the checkpoint has no head for one of the conditions.
    """
    encoder = CheckpointEncoder(checkpoint, checkpoint.readout)
    heads = {condition.name: checkpoint.probe_head(condition.name) for condition in conditions}
    labels = np.asarray(data.reader("train").labels)
    train = features_of(encoder, data, "train", conditions, device)
    test = features_of(encoder, data, "test", conditions, device)
    nearest = {name: neighbour_answers(train[name], labels, found, k=neighbours) for name, found in test.items()}
    raw = {name: heads[name](torch.from_numpy(found)) for name, found in test.items()}
    if checkpoint.task.kind == "multilabel":
        return nearest, {name: logits.sigmoid().numpy() for name, logits in raw.items()}
    return nearest, {name: answers_of_tiles(checkpoint.task, logits.numpy()) for name, logits in raw.items()}


def finetuned_answers(
    model: Predictor,
    preprocess: Preprocess,
    data: PairDataModule,
    conditions: Sequence[Condition],
    device: torch.device,
) -> Answers:
    """Answers over test of a finetuned predictor in eval mode, which serves every condition.

    `preprocess` turns native pixels into the predictor's tiles; of maps only counts are kept, and `data` reads them.
    """
    model.to(device)
    preprocess.to(device)

    def predict(batch: Batch, _: Sequence[str]) -> Tensor:
        found = model.answer(model(preprocess(batch.pixels)).float())
        if not model.task.is_dense:
            return found
        assert batch.maps is not None, "the data module was made without `with_maps`"  # noqa: S101
        if model.scale is not None:
            answers, confidence = found[:, 0].cpu().numpy(), None
        else:
            best = found.max(dim=1)
            answers, confidence = best.indices.cpu().numpy(), best.values.cpu().numpy()
        return torch.from_numpy(count_map(model.task, answers, confidence, batch.maps.cpu().numpy()))

    return over_split(predict, data, "test", conditions, device)
