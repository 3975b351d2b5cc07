"""CROMA (Fuller, Millard and Green 2023): an encoder for each modality and one for both."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from fusmae.rivals.rival import Rival
from fusmae.rivals.weights import WeightNames


class Croma(Rival):
    """torchgeo's `croma_base`: the GAP feature of one modality, or the joint GAP feature where both are given.

    The bands and their order are those of SSL4EO-S12, on which it was trained, without B10. Tiles of another side are
    resized to 120 px: 2-D ALiBi would accept larger ones, but with far longer attention than in its training.
    """

    name: ClassVar[str] = "croma_base"
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

    def _build(self) -> nn.Module:
        from torchgeo.models import croma_base

        model: nn.Module = croma_base(modalities=["sar", "optical"], image_size=self.side_px)
        return model

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
