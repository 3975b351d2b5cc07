"""What reaches each backbone: bands, their order, and a pixel's value."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fusmae.modalities import modality_inputs
from fusmae.rivals.backbones import to_8_bit
from tests.rivals.tiles import SEN12MS, THIRTEEN, TILE_M, make, statistics_of

pytestmark = pytest.mark.usefixtures("shallow")

INPUTS = modality_inputs(SEN12MS, TILE_M)
STATISTICS = statistics_of(INPUTS)
TWELVE = tuple(band for band in THIRTEEN if band != "B10")
BOTH = ("s1", "s2")
# A different one for each band, within what CROMA does not clip.
DEVIATIONS = {band: -1.5 + 0.2 * at for at, band in enumerate(("VH", "VV", *THIRTEEN))}


def pixels_of(item) -> Tensor:
    """Every pixel of a band is as many deviations from its mean as `DEVIATIONS` says."""
    known = STATISTICS[item.modality]
    values = torch.tensor([known[band].mean + known[band].std * DEVIATIONS[band] for band in item.bands])
    return values[None, :, None, None].expand(2, -1, item.side_px, item.side_px)


PIXELS = {item.name: pixels_of(item) for item in INPUTS}


class Heard:
    """Arguments of each call of a module."""

    def __init__(self, module: nn.Module) -> None:
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        module.register_forward_pre_hook(lambda _, *given: self.calls.append(given), with_kwargs=True)


def values(tile: Tensor) -> list[float]:
    """The one value of each channel."""
    assert torch.allclose(tile, tile[:1, :, :1, :1].expand_as(tile), atol=1e-5)
    return tile[0, :, 0, 0].tolist()


def of_original(band: str) -> float:
    """A pixel as CROMA's README normalises it with `use_8_bit`, but for where mean and deviation are from."""
    known = STATISTICS["s1" if band in ("VV", "VH") else "s2"][band]
    pixel = torch.tensor(known.mean + known.std * DEVIATIONS[band])
    low, high = known.mean - 2 * known.std, known.mean + 2 * known.std
    return torch.clip((pixel - low) / (high - low) * 255.0, 0, 255).to(torch.uint8).item() / 255


def test_croma_is_fed_its_bands_in_its_order_in_8_bit():
    rival = make("croma_base", SEN12MS)
    radar, optical = Heard(rival.backbone.s1_encoder), Heard(rival.backbone.s2_encoder)
    rival.features(PIXELS, BOTH)
    ((_, sar),), ((_, multispectral),) = radar.calls, optical.calls
    # Rounding before the cut to whole numbers may be a step of 1/255; bands are twelve steps apart.
    step = 1.01 / 255
    assert values(sar["imgs"]) == pytest.approx([of_original(band) for band in ("VV", "VH")], abs=step)
    assert values(multispectral["imgs"]) == pytest.approx([of_original(band) for band in TWELVE], abs=step)
    assert sar["imgs"].shape[-2:] == (120, 120)


def test_croma_clips_at_two_deviations_and_cuts_to_8_bit():
    standard = torch.tensor([-9.0, -2.0, 0.0, 0.5, 1.999, 2.0, 9.0])
    assert to_8_bit(standard).mul(255).tolist() == pytest.approx([0, 0, 127, 159, 254, 255, 255])


def test_dofa_is_fed_all_bands_together_each_with_its_wavelength():
    rival = make("dofa_base", SEN12MS)
    heard = Heard(rival.backbone.patch_embed)
    rival.features(PIXELS, BOTH)
    (((tile, wavelengths), _),) = heard.calls
    assert tile.shape == (2, 15, 224, 224)
    assert values(tile) == pytest.approx([DEVIATIONS[band] for band in ("VV", "VH", *THIRTEEN)], abs=1e-4)
    visible = [0.443, 0.49, 0.56, 0.665, 0.705, 0.74, 0.783, 0.842, 0.865, 0.945, 1.375, 1.61, 2.19]
    assert wavelengths.tolist() == pytest.approx([3.75, 3.75, *visible])


def test_copernicusfm_is_fed_a_sensor_a_pass_and_gives_their_mean():
    rival = make("copernicusfm_base", SEN12MS)
    heard = Heard(rival.backbone.patch_embed_spectral)
    both = rival.features(PIXELS, BOTH)
    (((radar,), of_radar), ((optical,), of_optical)) = heard.calls
    assert values(radar) == pytest.approx([DEVIATIONS["VV"], DEVIATIONS["VH"]], abs=1e-4)
    assert values(optical) == pytest.approx([DEVIATIONS[band] for band in THIRTEEN], abs=1e-4)
    assert of_radar["wavelengths"].tolist() == [5e7, 5e7]
    assert of_radar["bandwidths"].tolist() == [1e9, 1e9]
    assert of_optical["wavelengths"].tolist() == [440, 490, 560, 665, 705, 740, 783, 842, 860, 940, 1370, 1610, 2190]
    assert of_optical["bandwidths"].tolist() == [20, 65, 35, 30, 15, 15, 20, 115, 20, 20, 30, 90, 180]
    alone = [rival.features(PIXELS, (key,)) for key in BOTH]
    assert torch.allclose(both, (alone[0] + alone[1]) / 2, atol=1e-6)
