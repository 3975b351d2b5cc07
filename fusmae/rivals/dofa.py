"""DOFA (Xiong et al. 2024): one encoder whose patch embedding is computed from the bands' wavelengths."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from fusmae.rivals.rival import Rival
from fusmae.rivals.weights import WeightNames

# Sentinel-2's values are from DOFA's demonstration, and from torchgeo's tests for bands that are not in it.
# Sentinel-1's value is not a wavelength but DOFA's placeholder: torchgeo's weights (version 1) were trained with 3.75,
# version 2 with 5.405.
WAVELENGTHS_UM: dict[str, dict[str, float]] = {
    "s1": {"VV": 3.75, "VH": 3.75},
    "s2": {
        "B01": 0.443,
        "B02": 0.490,
        "B03": 0.560,
        "B04": 0.665,
        "B05": 0.705,
        "B06": 0.740,
        "B07": 0.783,
        "B08": 0.842,
        "B8A": 0.865,
        "B09": 0.945,
        "B10": 1.375,
        "B11": 1.610,
        "B12": 2.190,
    },
}


class Dofa(Rival):
    """torchgeo's `dofa_base_patch16_224`: the mean of patch tokens, normalised.

    Where both modalities are given, their bands go through the encoder together, as in DOFA's set-up for BigEarthNet.
    """

    name: ClassVar[str] = "dofa_base"
    bands: ClassVar[dict[str, tuple[str, ...]]] = {key: tuple(values) for key, values in WAVELENGTHS_UM.items()}
    is_fixed: ClassVar[bool] = False
    side_px: ClassVar[int] = 224
    weight_names: ClassVar[WeightNames] = WeightNames(
        optional=("fc_norm.",),
        ignored=("mask_token", "norm.", "projector.", "head."),
        published="DOFABase16_Weights",
    )

    def _build(self) -> nn.Module:
        from torchgeo.models import dofa_base_patch16_224

        model: nn.Module = dofa_base_patch16_224(num_classes=0)
        return model

    def _features(self, tiles: dict[str, Tensor]) -> Tensor:
        # In the rival's order, not the caller's: rounding of sums depends on the order.
        keys = [key for key in self.bands if key in tiles]
        wavelengths = [WAVELENGTHS_UM[key][band] for key in keys for band in self.chosen[key]]
        features: Tensor = self.backbone.forward_features(torch.cat([tiles[key] for key in keys], dim=1), wavelengths)
        return features
