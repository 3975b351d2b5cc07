"""A pretraining run's modules, from plain values: what is trained, and what its checkpoint will say of it."""

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
    """What a run starts from.

    Attributes:
        module: to be trained.
        initial: the model's weights before.
        architecture: as a checkpoint carries it.
        preprocessing: likewise.
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
    """Make model and preprocessing; weights depend on the seed alone.

    Args:
        switches: section `model` of params.yaml.
        recipe: how it will be trained.
        inputs: the arrays that one tile consists of.
        statistics: of their bands.
        seed: of the weights.
        is_stacked: all modalities go through one projection.
    """
    architecture = describe_architecture(switches, inputs, is_stacked=is_stacked)
    preprocessing = describe_preprocessing(inputs, statistics, is_stacked=is_stacked)
    torch.manual_seed(seed)
    model = build_fusmae(architecture)
    initial = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return Pretraining(
        Reconstructor(model, build_preprocess(preprocessing), recipe), initial, architecture, preprocessing
    )
