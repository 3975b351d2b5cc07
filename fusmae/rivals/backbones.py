"""The published backbones that a study compares with: frozen, on the same bands, with weights from a file.

- CROMA (Fuller, Millard and Green 2023): an encoder for each modality and one for both.
- DOFA (Xiong et al. 2024): one encoder whose patch embedding is computed from the bands' wavelengths.
- Copernicus-FM (Wang et al. 2025): DOFA's successor, with wavelength and bandwidth of each band as inputs.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
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

# Of each band the wavelength in micrometres for DOFA, then the central wavelength and bandwidth in nanometres for
# Copernicus-FM. The first are from DOFA's demonstration, and from torchgeo's tests for bands that are not in it;
# those of Sentinel-1 are no wavelengths but placeholders: torchgeo's weights (version 1) were trained with 3.75,
# version 2 with 5.405. The others are from the configurations of Copernicus-Bench.
SPECTRUM: dict[str, dict[str, tuple[float, float, float]]] = {
    "s1": {"VV": (3.75, 5e7, 1e9), "VH": (3.75, 5e7, 1e9)},
    "s2": {
        "B01": (0.443, 440, 20), "B02": (0.490, 490, 65), "B03": (0.560, 560, 35), "B04": (0.665, 665, 30),
        "B05": (0.705, 705, 15), "B06": (0.740, 740, 15), "B07": (0.783, 783, 20), "B08": (0.842, 842, 115),
        "B8A": (0.865, 860, 20), "B09": (0.945, 940, 20), "B10": (1.375, 1370, 30), "B11": (1.610, 1610, 90),
        "B12": (2.190, 2190, 180),
    },
}  # fmt: skip
_SPECTRAL_BANDS: dict[str, tuple[str, ...]] = {key: tuple(bands) for key, bands in SPECTRUM.items()}


class Rival(nn.Module, ABC):
    """A published backbone: physical pixels in, one vector per tile out; always frozen and in eval mode.

    Pixels are standardised by the data's own statistics and brought to the finest grid, as for Fus-MAE's encoder. The
    whole tile is then resized to the side that the backbone was trained with, so it gets larger tiles at a coarser
    scale.

    Raises:
        ConfigError: the data lacks a band or has one that the backbone can't use.
    """

    name: ClassVar[str]  # name, as in `RIVALS`
    maker: ClassVar[str] = ""  # name of torchgeo's function that makes the backbone; "" where it is that of the rival
    options: ClassVar[dict[str, Any]] = {"num_classes": 0}  # keyword arguments of that function
    bands: ClassVar[Mapping[str, tuple[str, ...]]]  # names of the backbone's bands by modality, in its input order
    # Whether it needs exactly `bands`, so that further ones are left out; otherwise it takes any subset of them, and a
    # band that is not among them is an error.
    is_fixed: ClassVar[bool] = False
    side_px: ClassVar[int] = 224  # height and width in pixels of the tiles that it was trained with
    # First parts of tensor names in the backbone that may be absent from the file of weights, as published.
    optional: ClassVar[tuple[str, ...]]
    # First parts of tensor names in the file that belong to pretraining and that the backbone doesn't have.
    ignored: ClassVar[tuple[str, ...]] = ()
    published: ClassVar[str]  # name of torchgeo's enumeration that gives the address of the published file

    def __init__(self, preprocessing: Preprocessing) -> None:
        import torchgeo.models

        super().__init__()
        self.preprocess = Preprocess(preprocessing)
        self.modalities = preprocessing.modalities
        self.origin = "random initial weights (no file was given)"  # a phrase for a report
        self.chosen: dict[str, tuple[str, ...]] = {}  # names of the bands that the backbone gets, by modality
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
        needed, usable = (known, given) if self.is_fixed else (given, known)
        if wrong := [band for band in needed if band not in usable]:
            raise ConfigError(
                f"{self.name} {'needs' if self.is_fixed else 'knows no'} {', '.join(wrong)} of {key}.",
                got=", ".join(given),
                expected=f"{'all' if self.is_fixed else 'any'} of {', '.join(known)}",
                hint="change data.modalities in params.yaml, or leave this rival out",
            )
        return tuple(band for band in known if band in given)

    def load(self, path: Path) -> None:
        """Load the backbone's weights; names and shapes must all fit, except for those that are optional or ignored.

        Raises:
            CheckpointError: the file is absent or damaged, or tensors don't fit; names them.
        """
        hint = f"give {self.name}'s own file: {self.published} in torchgeo says where it is"
        weights = {name: tensor for name, tensor in _read(path, hint).items() if not name.startswith(self.ignored)}
        load_weights(self.backbone, weights, path, model=self.name, optional=self.optional, hint=hint)
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
        if absent := [name for name in names if name not in pixels]:
            raise ValueError(f"arrays {absent} are absent, got {sorted(pixels)}")
        tiles = self.preprocess({name: pixels[name] for name in names})
        return self._features({key: self._fitted(key, tile) for key, tile in tiles.items()})

    def _fitted(self, key: str, tile: Tensor) -> Tensor:
        """Select the chosen bands of tiles `[B, C, H, W]` and resize them, to `[B, C', side_px, side_px]`."""
        chosen = tile.index_select(1, self.get_buffer(f"{key}_order"))
        if chosen.shape[-1] == self.side_px:
            return chosen
        return F.interpolate(chosen, size=self.side_px, mode="bilinear", align_corners=False, antialias=True)


class Croma(Rival):
    """torchgeo's `croma_base`: the GAP feature of one modality, or the joint GAP feature where both are given.

    The bands and their order are those of SSL4EO-S12, on which it was trained, without B10. Tiles of another side are
    resized to 120 px: 2-D ALiBi would accept larger ones, but with far longer attention than in its training.
    """

    name = "croma_base"
    options: ClassVar[dict[str, Any]] = {"modalities": ["sar", "optical"], "image_size": 120}
    bands: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "s1": ("VV", "VH"),
        "s2": ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"),
    }
    is_fixed = True
    side_px = 120
    optional = ("attn_bias",)  # ALiBi is computed, and not in the published file
    published = "CROMABase_Weights"

    def _features(self, tiles: dict[str, Tensor]) -> Tensor:
        images = {key: to_8_bit(tile) for key, tile in tiles.items()}
        model = self.backbone
        if len(images) == 2:
            joint: Tensor = model(x_sar=images["s1"], x_optical=images["s2"])["joint_GAP"]
            return joint
        # torchgeo's forward always runs the joint encoder, and fails on one modality.
        ((key, image),) = images.items()
        encoder, gap_ffn = (model.s1_encoder, model.s1_GAP_FFN) if key == "s1" else (model.s2_encoder, model.s2_GAP_FFN)
        feature: Tensor = gap_ffn(encoder(imgs=image, attn_bias=model.attn_bias).mean(dim=1))
        return feature


def to_8_bit(standard: Tensor) -> Tensor:
    """CROMA's `normalize`: standardised pixels of any shape, from -2..2 to 0..1, in steps of 1/255.

    CROMA's code takes mean and deviation from the current batch; here they are those of the training split.
    """
    return torch.floor(((standard + 2) / 4).clamp(0, 1) * 255) / 255


class Dofa(Rival):
    """torchgeo's `dofa_base_patch16_224`: the mean of patch tokens, normalised.

    Where both modalities are given, their bands go through the encoder together, as in DOFA's set-up for BigEarthNet.
    """

    name = "dofa_base"
    maker = "dofa_base_patch16_224"
    bands = _SPECTRAL_BANDS
    optional = ("fc_norm.",)
    ignored = ("mask_token", "norm.", "projector.", "head.")
    published = "DOFABase16_Weights"

    def _features(self, tiles: dict[str, Tensor]) -> Tensor:
        # In the rival's order, not the caller's: rounding of sums depends on the order.
        keys = [key for key in self.bands if key in tiles]
        wavelengths = [SPECTRUM[key][band][0] for key in keys for band in self.chosen[key]]
        features: Tensor = self.backbone.forward_features(torch.cat([tiles[key] for key in keys], dim=1), wavelengths)
        return features


class CopernicusFM(Rival):
    """torchgeo's `copernicusfm_base`: the mean of patch tokens, normalised.

    Where both modalities are given, features are the mean over one pass per modality: it was trained with one sensor
    per pass. Place, date and patch area are left unknown, for which it has tokens: Fus-MAE's encoder does not get them
    either.
    """

    name = "copernicusfm_base"
    bands = _SPECTRAL_BANDS
    optional = ("fc_norm.",)
    ignored = ("mask_token", "norm.", "head.")
    published = "CopernicusFM_Base_Weights"

    def _features(self, tiles: dict[str, Tensor]) -> Tensor:
        passes = [self._one_sensor(key, tiles[key]) for key in self.bands if key in tiles]
        return torch.stack(passes).mean(dim=0)

    def _one_sensor(self, key: str, tile: Tensor) -> Tensor:
        """A modality's tile `[B, C, H, W]` to `[B, D]`."""
        wavelengths, bandwidths = zip(*(SPECTRUM[key][band][1:] for band in self.chosen[key]), strict=True)
        unknown = torch.full((len(tile), 4), torch.nan, device=tile.device)
        spectrum = {"wavelengths": wavelengths, "bandwidths": bandwidths, "input_mode": "spectral"}
        features: Tensor = self.backbone.forward_features(tile, unknown, **spectrum, kernel_size=16)
        return features


RIVALS: dict[str, type[Rival]] = {kind.name: kind for kind in (Croma, Dofa, CopernicusFM)}


def build_rival(name: str, preprocessing: Preprocessing, weights: Path | None, seed: int) -> Rival:
    """Make one of `RIVALS`, frozen and in eval mode.

    `weights` is the path of a state dict as `.safetensors`, `.pth` or `.pt`; with None the rival has random initial
    weights, which depend on `seed` alone.

    Raises:
        ConfigError: the name is unknown, or the rival can't use the bands.
        CheckpointError: the file of weights is absent, damaged or of another model.
    """
    if name not in RIVALS:
        raise ConfigError("There is no such rival.", got=name, expected=f"one of {', '.join(RIVALS)}")
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: it would also seed each GPU, whose state is not restored.
        torch.default_generator.manual_seed(seed)
        rival = RIVALS[name](preprocessing)
    if weights is not None:
        rival.load(weights)
    return rival


def _read(path: Path, hint: str) -> dict[str, Tensor]:
    """The file's tensors by name."""
    if not path.is_file():
        raise CheckpointError(f"There is no file of weights {path}.", expected="a file", hint=hint)
    if path.suffix not in _SUFFIXES:
        expected = " or ".join(_SUFFIXES)
        raise CheckpointError(f"{path} is no file of weights.", got=path.suffix, expected=expected, hint=hint)
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
        got = type(loaded).__name__
        raise CheckpointError(f"{path} holds no state dict.", got=got, expected="tensors by name", hint=hint)
    return flat


def _flat(loaded: Any) -> dict[str, Any]:
    """Values by full name: CROMA's file has one state dict per part, Copernicus-FM's may have one under `model`."""
    if not isinstance(loaded, Mapping):
        return {}
    if isinstance(loaded.get("model"), Mapping):
        return dict(loaded["model"])
    parts = [(name, value if isinstance(value, Mapping) else {"": value}) for name, value in loaded.items()]
    return {f"{name}.{inner}" if inner else name: item for name, part in parts for inner, item in part.items()}
