"""The base class of rivals: bands are selected by name, tiles resized to one size, and weights are frozen."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusmae.errors import ConfigError
from fusmae.files import file_sha256
from fusmae.models.preprocess import Preprocess, Preprocessing
from fusmae.rivals.weights import WeightNames, load_backbone


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
