"""Copernicus-FM (Wang et al. 2025): DOFA's successor, with wavelength and bandwidth of each band as inputs."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from fusmae.rivals.rival import Rival
from fusmae.rivals.weights import WeightNames

# Central wavelength and bandwidth in nanometres, from the configurations of Copernicus-Bench.
SPECTRUM_NM: dict[str, dict[str, tuple[float, float]]] = {
    "s1": {"VV": (5e7, 1e9), "VH": (5e7, 1e9)},
    "s2": {
        "B01": (440, 20),
        "B02": (490, 65),
        "B03": (560, 35),
        "B04": (665, 30),
        "B05": (705, 15),
        "B06": (740, 15),
        "B07": (783, 20),
        "B08": (842, 115),
        "B8A": (860, 20),
        "B09": (940, 20),
        "B10": (1370, 30),
        "B11": (1610, 90),
        "B12": (2190, 180),
    },
}


class CopernicusFM(Rival):
    """torchgeo's `copernicusfm_base`: the mean of patch tokens, normalised.

    Where both modalities are given, features are the mean over one pass per modality: it was trained with one sensor
    per pass. Place, date and patch area are left unknown, for which it has tokens: Fus-MAE's encoder does not get them
    either.
    """

    name: ClassVar[str] = "copernicusfm_base"
    bands: ClassVar[dict[str, tuple[str, ...]]] = {key: tuple(values) for key, values in SPECTRUM_NM.items()}
    is_fixed: ClassVar[bool] = False
    side_px: ClassVar[int] = 224
    weight_names: ClassVar[WeightNames] = WeightNames(
        optional=("fc_norm.",),
        ignored=("mask_token", "norm.", "head."),
        published="CopernicusFM_Base_Weights",
    )

    def _build(self) -> nn.Module:
        from torchgeo.models import copernicusfm_base

        model: nn.Module = copernicusfm_base(num_classes=0)
        return model

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
