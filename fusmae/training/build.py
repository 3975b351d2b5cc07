"""Modules from the plain description that a checkpoint carries, so that a checkpoint alone is enough."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from fusmae.data.statistics import parse_statistics, plain_statistics
from fusmae.modalities import ModalityInput, Statistics
from fusmae.models.encoder import Encoder
from fusmae.models.fusmae import FusMAE
from fusmae.models.preprocess import Preprocess


def describe_architecture(
    switches: Mapping[str, Any], inputs: Sequence[ModalityInput], *, is_stacked: bool = False
) -> dict[str, Any]:
    """Every switch and size, with what follows from the inputs: tile side and band groups by modality.

    Args:
        switches: section `model` of params.yaml.
        inputs: the arrays that one tile consists of.
        is_stacked: all modalities are one, as `Preprocess` stacks them; masked as the first is.
    """
    groups: dict[str, list[int]] = {}
    for item in inputs:
        groups.setdefault(item.modality, []).append(len(item.bands))
    if is_stacked:
        first, name = next(iter(groups)), "+".join(groups)
        switches = {**switches, "mask_ratio": {name: switches["mask_ratio"][first]}}
        groups = {name: [count for counts in groups.values() for count in counts]}
    return {**switches, "tile_px": max(item.side_px for item in inputs), "groups": groups}


def describe_preprocessing(
    inputs: Sequence[ModalityInput], statistics: Statistics, *, is_stacked: bool = False
) -> dict[str, Any]:
    """Inputs and band statistics as plain JSON values, and whether all modalities are stacked into one."""
    return {
        "inputs": [item.model_dump(mode="json") for item in inputs],
        "statistics": plain_statistics(statistics),
        "is_stacked": is_stacked,
    }


def build_preprocess(preprocessing: Mapping[str, Any]) -> Preprocess:
    """The front of every model, from what `describe_preprocessing` gave."""
    return Preprocess(
        inputs_of(preprocessing),
        parse_statistics(preprocessing["statistics"]),
        is_stacked=preprocessing.get("is_stacked", False),
    )


def inputs_of(preprocessing: Mapping[str, Any]) -> tuple[ModalityInput, ...]:
    """The arrays that a model is fed."""
    return tuple(ModalityInput.model_validate(item) for item in preprocessing["inputs"])


def build_fusmae(architecture: Mapping[str, Any]) -> FusMAE:
    """The autoencoder, from what `describe_architecture` gave."""
    names = (
        "tile_px", "patch_px", "dim", "depth", "num_heads", "decoder_dim", "decoder_depth", "decoder_num_heads",
        "early_fusion", "feature_fusion", "masking", "mask_ratio", "target_norm", "decode_fraction",
    )  # fmt: skip
    groups = {key: tuple(sizes) for key, sizes in architecture["groups"].items()}
    return FusMAE(groups=groups, **{name: architecture[name] for name in names})


def build_encoder(architecture: Mapping[str, Any], *, drop_path: float = 0.0) -> Encoder:
    """The encoder alone, as probe and finetune use it."""
    names = ("tile_px", "patch_px", "dim", "depth", "num_heads", "early_fusion")
    in_chans = {key: sum(sizes) for key, sizes in architecture["groups"].items()}
    return Encoder(in_chans=in_chans, drop_path=drop_path, **{name: architecture[name] for name in names})


def part_of(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Weights below a prefix, without it: `part_of(weights, "encoder.")`."""
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


def modality_settings(modalities: Sequence[str]) -> list[tuple[str, ...]]:
    """What a model is tried with: every modality together, then each alone."""
    return [tuple(modalities), *((key,) for key in modalities if len(modalities) > 1)]
