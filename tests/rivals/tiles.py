"""Small tiles of two data sets' bands, and rivals for them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from fusmae.modalities import BandGroup, BandStatistics, Modality, ModalityInput, Statistics, modality_inputs
from fusmae.models.preprocess import Preprocessing
from fusmae.rivals.backbones import Rival, build_rival

TILE_M = 240
S1 = Modality(units="dB", groups=(BandGroup(gsd_m=10, bands=("VV", "VH")),))
BIGEARTHNET = {
    "s1": S1,
    "s2": Modality(
        units="DN",
        groups=(
            BandGroup(gsd_m=10, bands=("B02", "B03", "B04", "B08")),
            BandGroup(gsd_m=20, bands=("B05", "B06", "B07", "B8A", "B11", "B12")),
            BandGroup(gsd_m=60, bands=("B01", "B09")),
        ),
    ),
}
THIRTEEN = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
SEN12MS = {"s1": S1, "s2": Modality(units="DN", groups=(BandGroup(gsd_m=10, bands=THIRTEEN),))}


def statistics_of(inputs: Sequence[ModalityInput]) -> Statistics:
    """Another mean for each band, so that a swap shows."""
    found: Statistics = {}
    for item in inputs:
        for band in item.bands:
            key = sum(band.encode())
            known = (
                BandStatistics(mean=-key / 10, std=5.0)
                if item.units == "dB"
                else BandStatistics(mean=9 * key, std=400.0)
            )
            found.setdefault(item.modality, {})[band] = known
    return found


def draw(inputs: Sequence[ModalityInput], statistics: Statistics) -> dict[str, Tensor]:
    """A batch of two; a band has the same pixels wherever it is."""
    pixels = {}
    for item in inputs:
        arrays = []
        for band in item.bands:
            generator = torch.Generator().manual_seed(sum(band.encode()))
            noise = torch.randn(2, item.side_px, item.side_px, generator=generator)
            known = statistics[item.modality][band]
            arrays.append(known.mean + known.std * noise)
        pixels[item.name] = torch.stack(arrays, dim=1)
    return pixels


def make(
    name: str,
    modalities: Mapping[str, Modality] = BIGEARTHNET,
    *,
    tile_m: int = TILE_M,
    weights: Path | None = None,
    seed: int = 0,
) -> Rival:
    inputs = modality_inputs(modalities, tile_m)
    preprocessing = Preprocessing(inputs=inputs, statistics=statistics_of(inputs))
    return build_rival(name, preprocessing, weights, seed)
