"""Probabilities of a published checkpoint over a whole split, with some of the modalities."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from fusmae.config.runtime import RuntimeConfig
from fusmae.data.datamodule import PairDataModule
from fusmae.data.index import Split
from fusmae.models.preprocess import Preprocess
from fusmae.training.checkpoint import Checkpoint
from fusmae.training.probe import setting_name
from fusmae.training.supervised import Predictor
from fusmae.training.trainer import predict

Protocol = Literal["probe", "finetune"]


def predict_split(
    checkpoint: Checkpoint,
    protocol: Protocol,
    setting: Sequence[str],
    data: PairDataModule,
    split: Split,
    runtime: RuntimeConfig,
) -> NDArray[Any]:
    """Run a checkpoint's classifier on a split.

    Args:
        checkpoint: checkpoint of the stage that `protocol` names.
        protocol: content of the checkpoint: one head per setting (probe), or one finetuned model.
        setting: modalities that the model gets.
        data: data module with the split.
        split: name of the split.
        runtime: section `runtime` of params.yaml.

    Returns:
        Probabilities `[N, K]` in the split's order.
    """
    if protocol == "finetune":
        model = checkpoint.finetuned_classifier()
    else:
        model = checkpoint.probed_classifier(setting_name(setting))
    predictor = Predictor(model, Preprocess(checkpoint.preprocessing), setting)
    logits = torch.cat(predict(runtime, predictor, data.loader(split)))
    return np.asarray(torch.sigmoid(logits))
