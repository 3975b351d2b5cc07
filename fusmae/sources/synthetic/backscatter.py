"""What Sentinel-1 measures: backscatter of scatterers from smooth to rough, with speckle.

The levels are typical C-band values, rounded. Speckle multiplies power by a Gamma variable of `ENL` looks, as in a
ground range detected product; unlike in such a product, neighbouring pixels are independent.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusmae.sources.patches.bands import MODALITIES
from fusmae.sources.synthetic.texture import Field

S1_BANDS: tuple[str, ...] = MODALITIES["s1"].bands
"""S1 bands in channel order, the order of all arrays of this module."""

ENL = 4.4
"""Equivalent number of looks: mean² / variance of power over even ground."""


@dataclass(frozen=True)
class Scatterer:
    """A surface as S1 sees it: backscatter in dB by band at roughness 0 and at 1."""

    smooth_db: dict[str, float]
    rough_db: dict[str, float]


SCATTERERS: dict[str, Scatterer] = {
    "field": Scatterer({"VV": -15.0, "VH": -22.0}, {"VV": -8.0, "VH": -15.0}),
    "forest": Scatterer({"VV": -11.5, "VH": -17.0}, {"VV": -8.5, "VH": -13.5}),
    "bush": Scatterer({"VV": -15.5, "VH": -21.5}, {"VV": -7.5, "VH": -13.5}),
    "water": Scatterer({"VV": -23.0, "VH": -28.0}, {"VV": -17.0, "VH": -25.0}),
    # Stems over water: the double-bounce echo is mostly in VV.
    "flooded": Scatterer({"VV": -9.0, "VH": -17.0}, {"VV": -6.0, "VH": -14.5}),
    "meadow": Scatterer({"VV": -14.5, "VH": -21.5}, {"VV": -11.5, "VH": -18.0}),
    # Walls beside streets: a double bounce too, whose strength depends on the orientation of the wall.
    "wall": Scatterer({"VV": -10.0, "VH": -17.0}, {"VV": 1.0, "VH": -7.0}),
    "street": Scatterer({"VV": -16.5, "VH": -23.0}, {"VV": -13.0, "VH": -20.0}),
}

SCATTERER_IDS: dict[str, int] = {name: number for number, name in enumerate(SCATTERERS)}
"""Number of each scatterer in maps of scatterers."""

_SMOOTH_DB = np.array([[item.smooth_db[band] for band in S1_BANDS] for item in SCATTERERS.values()], dtype=np.float32)
_ROUGH_DB = np.array([[item.rough_db[band] for band in S1_BANDS] for item in SCATTERERS.values()], dtype=np.float32)


def backscatter_db(scatterer: NDArray[np.uint8], rough: Field, shift_db: Field) -> Field:
    """Return backscatter in dB without speckle, `[C, h, w]`, in channel order.

    Args:
        scatterer: ids of scatterers, `[h, w]`.
        rough: roughness from 0 to 1, `[h, w]`.
        shift_db: contribution of moisture and slope in dB, `[h, w]`.
    """
    smooth, change = _SMOOTH_DB.T, (_ROUGH_DB - _SMOOTH_DB).T
    return np.stack(
        [base[scatterer] + more[scatterer] * rough + shift_db for base, more in zip(smooth, change, strict=True)]
    )


def with_speckle(random: np.random.Generator, level_db: Field) -> Field:
    """Return the same backscatter with the speckle of one acquisition: float32 in dB, of the same shape."""
    looks = random.standard_gamma(ENL, size=level_db.shape, dtype=np.float32) / np.float32(ENL)
    # A Gamma draw may round to 0, which has no logarithm.
    return np.asarray(level_db + 10 * np.log10(np.maximum(looks, np.float32(1e-4))), dtype=np.float32)
