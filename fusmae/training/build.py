"""Build modules from the plain description in a checkpoint, so that nothing but the checkpoint is needed."""

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
    """Every switch and size of the model, with what follows from the inputs: tile side and band groups by modality.

    Args:
        switches: section `model` of params.yaml.
        inputs: descriptions of the arrays that one tile consists of.
        is_stacked: whether `Preprocess` stacks all modalities into one; that one gets the first modality's mask ratio.
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
    """Inputs, band statistics and whether all modalities are stacked into one, as plain JSON values."""
    return {
        "inputs": [item.model_dump(mode="json") for item in inputs],
        "statistics": plain_statistics(statistics),
        "is_stacked": is_stacked,
    }


def build_preprocess(preprocessing: Mapping[str, Any]) -> Preprocess:
    """Build the preprocessing of a model from the result of `describe_preprocessing`."""
    return Preprocess(
        inputs_of(preprocessing),
        parse_statistics(preprocessing["statistics"]),
        is_stacked=preprocessing.get("is_stacked", False),
    )


def inputs_of(preprocessing: Mapping[str, Any]) -> tuple[ModalityInput, ...]:
    """Descriptions of a model's input arrays."""
    return tuple(ModalityInput.model_validate(item) for item in preprocessing["inputs"])


def build_fusmae(architecture: Mapping[str, Any]) -> FusMAE:
    """Build the autoencoder from the result of `describe_architecture`."""
    names = (
        "tile_px", "patch_px", "dim", "depth", "num_heads", "decoder_dim", "decoder_depth", "decoder_num_heads",
        "early_fusion", "feature_fusion", "masking", "mask_ratio", "target_norm", "decode_fraction",
    )  # fmt: skip
    groups = {key: tuple(sizes) for key, sizes in architecture["groups"].items()}
    return FusMAE(groups=groups, **{name: architecture[name] for name in names})


def build_encoder(architecture: Mapping[str, Any], *, drop_path: float = 0.0) -> Encoder:
    """Build the encoder alone, as probe and finetune use it."""
    names = ("tile_px", "patch_px", "dim", "depth", "num_heads", "early_fusion")
    in_chans = {key: sum(sizes) for key, sizes in architecture["groups"].items()}
    return Encoder(in_chans=in_chans, drop_path=drop_path, **{name: architecture[name] for name in names})


def part_of(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Weights whose names start with a prefix, which is removed from the names: `part_of(weights, "encoder.")`."""
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


def modality_settings(modalities: Sequence[str]) -> list[tuple[str, ...]]:
    """Sets of modalities that a model is evaluated with: all together, then each alone."""
    return [tuple(modalities), *((key,) for key in modalities if len(modalities) > 1)]
