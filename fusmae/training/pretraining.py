"""Build a pretraining run from plain values: the modules to train and their description for the checkpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fusmae.modalities import ModalityInput, Statistics
from fusmae.training.build import build_fusmae, build_preprocess, describe_architecture, describe_preprocessing
from fusmae.training.reconstruction import PretrainRecipe, Reconstructor


@dataclass(frozen=True)
class Pretraining:
    """The start of a pretraining run.

    Attributes:
        module: module to train.
        initial: weights of the model before training, by parameter name.
        architecture: description of the architecture, as a checkpoint stores it.
        preprocessing: description of the preprocessing, likewise.
    """

    module: Reconstructor
    initial: dict[str, Tensor]
    architecture: dict[str, Any]
    preprocessing: dict[str, Any]


def build_pretraining(
    switches: Mapping[str, Any],
    recipe: PretrainRecipe,
    inputs: Sequence[ModalityInput],
    statistics: Statistics,
    seed: int,
    *,
    is_stacked: bool = False,
) -> Pretraining:
    """Build model and preprocessing; the initial weights of an architecture depend on the seed alone.

    Args:
        switches: section `model` of params.yaml.
        recipe: settings of the training.
        inputs: descriptions of the arrays that one tile consists of.
        statistics: mean and standard deviation of each band of the inputs.
        seed: random seed of the weights.
        is_stacked: whether all modalities are stacked into one and go through one projection.
    """
    architecture = describe_architecture(switches, inputs, is_stacked=is_stacked)
    preprocessing = describe_preprocessing(inputs, statistics, is_stacked=is_stacked)
    torch.manual_seed(seed)
    model = build_fusmae(architecture)
    initial = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return Pretraining(
        Reconstructor(model, build_preprocess(preprocessing), recipe), initial, architecture, preprocessing
    )
