"""The base class of rivals: bands selected by name, tiles resized, and frozen weights from a file that runs no code."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from fusmae.errors import CheckpointError, ConfigError
from fusmae.files import file_sha256
from fusmae.models.preprocess import Preprocess, Preprocessing
from fusmae.models.weights import load_weights

_SUFFIXES = (".safetensors", ".pth", ".pt")


@dataclass(frozen=True)
class WeightNames:
    """Tensors by which a file of weights may differ from the backbone."""

    # First parts of tensor names in the backbone that may be absent from the file, as published.
    optional: tuple[str, ...]
    # First parts of tensor names in the file that belong to pretraining and that the backbone doesn't have.
    ignored: tuple[str, ...]
    published: str  # name of torchgeo's enumeration that gives the address of the published file


class Rival(nn.Module, ABC):
    """A published backbone: physical pixels in, one vector per tile out; always frozen and in eval mode.

    Pixels are standardised by the data's own statistics and brought to the finest grid, as for Fus-MAE's encoder. The
    whole tile is then resized to the side that the backbone was trained with, so it gets larger tiles at a coarser
    scale.

    Args:
        preprocessing: input arrays and band statistics.

    Attributes:
        name: name, as in `RIVALS`.
        maker: name of torchgeo's function that makes the backbone; "" where it is that of the rival.
        options: keyword arguments of that function.
        bands: names of the backbone's bands by modality, in its input order.
        is_fixed: whether it needs exactly `bands`, so that further ones are left out; otherwise it takes any subset
            of them, and a band that is not among them is an error.
        side_px: height and width in pixels of the tiles that it was trained with.
        dim: D, width of the features.
        weight_names: tensors by which a file of weights may differ from the backbone.
        origin: origin of the weights, as a phrase for a report.
        modalities: names of the modalities that it is given.
        chosen: names of the bands that it gets, by modality.
        num_parameters: number of parameters of the backbone.

    Raises:
        ConfigError: the data lacks a band or has one that the backbone can't use.
    """

    name: ClassVar[str]
    maker: ClassVar[str] = ""
    options: ClassVar[dict[str, Any]] = {"num_classes": 0}
    bands: ClassVar[Mapping[str, tuple[str, ...]]]
    is_fixed: ClassVar[bool] = False
    side_px: ClassVar[int] = 224
    dim: ClassVar[int] = 768
    weight_names: ClassVar[WeightNames]

    def __init__(self, preprocessing: Preprocessing) -> None:
        import torchgeo.models

        super().__init__()
        self.preprocess = Preprocess(preprocessing)
        self.modalities = preprocessing.modalities
        self.origin = "random initial weights (no file was given)"
        self.chosen: dict[str, tuple[str, ...]] = {}
        for key in self.modalities:
            given = [band for item in preprocessing.inputs if item.modality == key for band in item.bands]
            self.chosen[key] = self._choose(key, given)
            order = torch.tensor([given.index(band) for band in self.chosen[key]])
            self.register_buffer(f"{key}_order", order, persistent=False)
        self.backbone: Any = getattr(torchgeo.models, self.maker or self.name)(**self.options)
        self.num_parameters = sum(parameter.numel() for parameter in self.parameters())
        self.requires_grad_(False)
        self.eval()

    @abstractmethod
    def _features(self, tiles: dict[str, Tensor]) -> Tensor:
        """Standardised tiles `[B, C, side_px, side_px]` by modality, bands as in `chosen`, to `[B, D]`."""

    def _choose(self, key: str, given: Sequence[str]) -> tuple[str, ...]:
        """The bands of a modality that the backbone gets, in its own order."""
        known = self.bands.get(key)
        if known is None:
            raise ConfigError(f"{self.name} has no modality {key}.", got=key, expected=" or ".join(self.bands))
        missing = [band for band in known if band not in given] if self.is_fixed else []
        unknown = [] if self.is_fixed else [band for band in given if band not in known]
        if missing or unknown:
            wrong = f"needs {', '.join(missing)}" if missing else f"knows no {', '.join(unknown)}"
            raise ConfigError(
                f"{self.name} {wrong} of {key}.",
                got=", ".join(given),
                expected=("all of " if self.is_fixed else "any of ") + ", ".join(known),
                hint="change data.modalities in params.yaml, or leave this rival out",
            )
        return tuple(band for band in known if band in given)

    def load(self, path: Path) -> None:
        """Load weights from a file.

        Raises:
            CheckpointError: the file is absent, damaged or of another model.
        """
        load_backbone(self.backbone, path, self.weight_names, self.name)
        self.origin = f"weights of {path.name}, sha256 {file_sha256(path)}"

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode, whatever `mode` is: a trainer puts every module that it holds in training mode."""
        return super().train(False)

    @torch.no_grad()
    def features(self, pixels: dict[str, Tensor], setting: Sequence[str]) -> Tensor:
        """Features of tiles of which only some modalities are given.

        Args:
            pixels: arrays `[B, C_g, h, w]` in physical units, by input name (`s2_10m`); those of modalities outside
                `setting` are ignored.
            setting: names of the given modalities, such as `("s1", "s2")` or `("s1",)`.

        Returns:
            Features `[B, D]`, float32.

        Raises:
            ValueError: a modality is unknown, or its arrays are absent or of another shape.
        """
        if not setting or not set(setting) <= set(self.modalities):
            raise ValueError(f"unknown setting {setting}, expected some of {self.modalities}")
        names = [item.name for item in self.preprocess.inputs if item.modality in setting]
        absent = [name for name in names if name not in pixels]
        if absent:
            raise ValueError(f"arrays {absent} are absent, got {sorted(pixels)}")
        tiles = self.preprocess({name: pixels[name] for name in names})
        return self._features({key: self._fitted(key, tile) for key, tile in tiles.items()})

    def _fitted(self, key: str, tile: Tensor) -> Tensor:
        """Select the chosen bands of tiles `[B, C, H, W]` and resize them, to `[B, C', side_px, side_px]`."""
        chosen = tile.index_select(1, self.get_buffer(f"{key}_order"))
        if chosen.shape[-1] == self.side_px:
            return chosen
        size = (self.side_px, self.side_px)
        return F.interpolate(chosen, size=size, mode="bilinear", align_corners=False, antialias=True)


def load_backbone(backbone: nn.Module, path: Path, names: WeightNames, rival: str) -> None:
    """Load weights, whose names and shapes must all fit, except for those that are optional or ignored.

    Raises:
        CheckpointError: the file is absent or damaged, or tensors don't fit; names them.
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
