"""The published backbones, by name, and how one is made.

- CROMA (Fuller, Millard and Green 2023): an encoder for each modality and one for both.
- DOFA (Xiong et al. 2024): one encoder whose patch embedding is computed from the bands' wavelengths.
- Copernicus-FM (Wang et al. 2025): DOFA's successor, with wavelength and bandwidth of each band as inputs.
"""

from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from fusmae.errors import ConfigError
from fusmae.models.preprocess import Preprocessing
from fusmae.rivals.rival import Rival, WeightNames

# Sentinel-2's values are from DOFA's demonstration, and from torchgeo's tests for bands that are not in it.
# Sentinel-1's value is not a wavelength but DOFA's placeholder: torchgeo's weights (version 1) were trained with 3.75,
# version 2 with 5.405.
WAVELENGTHS_UM: dict[str, dict[str, float]] = {
    "s1": {"VV": 3.75, "VH": 3.75},
    "s2": {
        "B01": 0.443, "B02": 0.490, "B03": 0.560, "B04": 0.665,
        "B05": 0.705, "B06": 0.740, "B07": 0.783, "B08": 0.842,
        "B8A": 0.865, "B09": 0.945, "B10": 1.375, "B11": 1.610,
        "B12": 2.190,
    },
}  # fmt: skip

# Central wavelength and bandwidth in nanometres, from the configurations of Copernicus-Bench.
SPECTRUM_NM: dict[str, dict[str, tuple[float, float]]] = {
    "s1": {"VV": (5e7, 1e9), "VH": (5e7, 1e9)},
    "s2": {
        "B01": (440, 20), "B02": (490, 65), "B03": (560, 35), "B04": (665, 30),
        "B05": (705, 15), "B06": (740, 15), "B07": (783, 20), "B08": (842, 115),
        "B8A": (860, 20), "B09": (940, 20), "B10": (1370, 30), "B11": (1610, 90),
        "B12": (2190, 180),
    },
}  # fmt: skip


class Croma(Rival):
    """torchgeo's `croma_base`: the GAP feature of one modality, or the joint GAP feature where both are given.

    The bands and their order are those of SSL4EO-S12, on which it was trained, without B10. Tiles of another side are
    resized to 120 px: 2-D ALiBi would accept larger ones, but with far longer attention than in its training.
    """

    name: ClassVar[str] = "croma_base"
    options: ClassVar[dict[str, Any]] = {"modalities": ["sar", "optical"], "image_size": 120}
    bands: ClassVar[dict[str, tuple[str, ...]]] = {
        "s1": ("VV", "VH"),
        "s2": ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"),
    }
    is_fixed: ClassVar[bool] = True
    side_px: ClassVar[int] = 120
    weight_names: ClassVar[WeightNames] = WeightNames(
        # ALiBi is computed, and not in the published file.
        optional=("attn_bias",),
        ignored=(),
        published="CROMABase_Weights",
    )

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
    """CROMA's `normalize`: mean ± 2 standard deviations to 0..1, in steps of 1/255.

    CROMA's code takes mean and deviation from the current batch; here they are those of the training split.

    Args:
        standard: pixels with zero mean and unit deviation, of any shape.
    """
    return torch.floor(((standard + 2) / 4).clamp(0, 1) * 255) / 255


class Dofa(Rival):
    """torchgeo's `dofa_base_patch16_224`: the mean of patch tokens, normalised.

    Where both modalities are given, their bands go through the encoder together, as in DOFA's set-up for BigEarthNet.
    """

    name: ClassVar[str] = "dofa_base"
    maker: ClassVar[str] = "dofa_base_patch16_224"
    bands: ClassVar[dict[str, tuple[str, ...]]] = {key: tuple(values) for key, values in WAVELENGTHS_UM.items()}
    weight_names: ClassVar[WeightNames] = WeightNames(
        optional=("fc_norm.",), ignored=("mask_token", "norm.", "projector.", "head."), published="DOFABase16_Weights"
    )

    def _features(self, tiles: dict[str, Tensor]) -> Tensor:
        # In the rival's order, not the caller's: rounding of sums depends on the order.
        keys = [key for key in self.bands if key in tiles]
        wavelengths = [WAVELENGTHS_UM[key][band] for key in keys for band in self.chosen[key]]
        features: Tensor = self.backbone.forward_features(torch.cat([tiles[key] for key in keys], dim=1), wavelengths)
        return features


class CopernicusFM(Rival):
    """torchgeo's `copernicusfm_base`: the mean of patch tokens, normalised.

    Where both modalities are given, features are the mean over one pass per modality: it was trained with one sensor
    per pass. Place, date and patch area are left unknown, for which it has tokens: Fus-MAE's encoder does not get them
    either.
    """

    name: ClassVar[str] = "copernicusfm_base"
    bands: ClassVar[dict[str, tuple[str, ...]]] = {key: tuple(values) for key, values in SPECTRUM_NM.items()}
    weight_names: ClassVar[WeightNames] = WeightNames(
        optional=("fc_norm.",), ignored=("mask_token", "norm.", "head."), published="CopernicusFM_Base_Weights"
    )

    def _features(self, tiles: dict[str, Tensor]) -> Tensor:
        passes = [self._one_sensor(key, tiles[key]) for key in self.bands if key in tiles]
        return torch.stack(passes).mean(dim=0)

    def _one_sensor(self, key: str, tile: Tensor) -> Tensor:
        """A modality's tile `[B, C, H, W]` to `[B, D]`."""
        wavelengths, bandwidths = zip(*(SPECTRUM_NM[key][band] for band in self.chosen[key]), strict=True)
        unknown = torch.full((len(tile), 4), torch.nan, device=tile.device)
        features: Tensor = self.backbone.forward_features(
            tile, unknown, wavelengths=wavelengths, bandwidths=bandwidths, input_mode="spectral", kernel_size=16
        )
        return features


_KINDS: dict[str, type[Rival]] = {kind.name: kind for kind in (Croma, Dofa, CopernicusFM)}

RIVALS: tuple[str, ...] = tuple(_KINDS)


def build_rival(name: str, preprocessing: Preprocessing, weights: Path | None, seed: int) -> Rival:
    """Make one of `RIVALS`, frozen and in eval mode.

    Args:
        name: one of `RIVALS`.
        preprocessing: its input arrays and band statistics.
        weights: path of a state dict as `.safetensors`, `.pth` or `.pt`; None for random initial weights.
        seed: random seed, on which alone random initial weights depend.

    Raises:
        ConfigError: the name is unknown, or the rival can't use the bands.
        CheckpointError: the file of weights is absent, damaged or of another model.
    """
    if name not in _KINDS:
        raise ConfigError("There is no such rival.", got=name, expected=f"one of {', '.join(RIVALS)}")
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: it would also seed each GPU, whose state is not restored.
        torch.default_generator.manual_seed(seed)
        rival = _KINDS[name](preprocessing)
    if weights is not None:
        rival.load(weights)
    return rival
