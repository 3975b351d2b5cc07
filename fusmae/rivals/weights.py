"""Load a published file of weights, without running code from it, into a backbone that it must fit."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from fusmae.errors import CheckpointError
from fusmae.models.weights import load_weights

_SUFFIXES = (".safetensors", ".pth", ".pt")


@dataclass(frozen=True)
class WeightNames:
    """Tensors by which a file of weights may differ from the backbone.

    Attributes:
        optional: first parts of tensor names in the backbone that may be absent from the file, as published.
        ignored: first parts of tensor names in the file that belong to pretraining and that the backbone doesn't have.
        published: name of torchgeo's enumeration that gives the address of the published file.
    """

    optional: tuple[str, ...]
    ignored: tuple[str, ...]
    published: str


def load_backbone(backbone: nn.Module, path: Path, names: WeightNames, rival: str) -> None:
    """Load weights, whose names and shapes must all fit, except for those that are optional or ignored.

    Raises:
        CheckpointError: the file is absent or damaged, or tensors are missing, left over or of another shape; names
            them.
    """
    hint = f"give {rival}'s own file: {names.published} in torchgeo says where it is"
    weights = {name: tensor for name, tensor in _read(path, hint).items() if not name.startswith(names.ignored)}
    load_weights(backbone, weights, path, model=rival, optional=names.optional, hint=hint)


def _read(path: Path, hint: str) -> dict[str, Tensor]:
    """The file's tensors by name."""
    if not path.is_file():
        raise CheckpointError(f"There is no file of weights {path}.", expected="a file", hint=hint)
    if path.suffix not in _SUFFIXES:
        raise CheckpointError(
            f"{path} is no file of weights.", got=path.suffix, expected=" or ".join(_SUFFIXES), hint=hint
        )
    try:
        is_pickle = path.suffix != ".safetensors"
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True) if is_pickle else load_file(path)
    except Exception as error:  # a reader may raise anything for a foreign file
        # The error's text is left out: that of torch explains how to load files that are not trusted.
        raise CheckpointError(
            f"{path} is damaged, or holds more than tensors.",
            got=type(error).__name__,
            expected="a state dict; nothing else in a pickle is read",
            hint=hint,
        ) from error
    flat = _flat(loaded)
    if not flat or not all(isinstance(value, Tensor) for value in flat.values()):
        raise CheckpointError(
            f"{path} holds no state dict.", got=type(loaded).__name__, expected="tensors by name", hint=hint
        )
    return flat


def _flat(loaded: Any) -> dict[str, Any]:
    """Values by full name: CROMA's file has one state dict per part, Copernicus-FM's may have one under `model`."""
    if not isinstance(loaded, Mapping):
        return {}
    if isinstance(loaded.get("model"), Mapping):
        return dict(loaded["model"])
    parts = [(name, value if isinstance(value, Mapping) else {"": value}) for name, value in loaded.items()]
    return {f"{name}.{inner}" if inner else name: item for name, part in parts for inner, item in part.items()}
