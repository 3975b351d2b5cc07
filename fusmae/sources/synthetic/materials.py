"""What the satellites measure of a surface: reflectance of materials (S2), backscatter of scatterers (S1).

All values are rounded typical ones, from spectral libraries, published class means and C-band literature; they are not
measurements. A material is a mixture of two end members: its `state` (0 to 1) goes from its first spectrum to its
second, such as soil to green crop, bare branches to leaves, clear to turbid water. A scatterer goes from smooth to
rough. Speckle multiplies power by a Gamma variable of `ENL` looks, as in a ground range detected product; unlike in
such a product, neighbouring pixels are independent.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusmae.sources.patches.bands import MODALITIES
from fusmae.sources.synthetic.texture import Field

_ORDER = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
"""S2 bands by wavelength, the order of the tables below."""

S2_BANDS: tuple[str, ...] = MODALITIES["s2"].bands
"""S2 bands in channel order, the order of arrays of reflectance."""

S1_BANDS: tuple[str, ...] = MODALITIES["s1"].bands
"""S1 bands in channel order, the order of arrays of backscatter."""

ENL = 4.4
"""Equivalent number of looks: mean² / variance of power over even ground."""


@dataclass(frozen=True)
class Material:
    """A surface as S2 measures it.

    Attributes:
        dormant: reflectance in percent at state 0, in the order of wavelengths.
        active: reflectance in percent at state 1, in the same order.
        winter: factor on the state in the middle of winter; 1 for a material without seasons.
    """

    dormant: tuple[float, ...]
    active: tuple[float, ...]
    winter: float


MATERIALS: dict[str, Material] = {
    "crop": Material(
        dormant=(7.5, 9.0, 12.0, 15.5, 18.5, 20.5, 22.5, 24.0, 26.0, 27.0, 32.5, 28.0),
        active=(3.0, 3.5, 7.0, 4.0, 11.0, 30.0, 38.0, 40.0, 42.0, 42.0, 20.0, 10.0),
        winter=0.45,
    ),
    "grass": Material(
        dormant=(4.5, 6.0, 9.0, 10.5, 14.5, 20.0, 23.0, 25.0, 27.0, 28.0, 29.0, 19.0),
        active=(3.0, 4.0, 7.5, 5.0, 12.0, 28.0, 34.0, 36.0, 38.0, 38.0, 21.0, 11.0),
        winter=0.4,
    ),
    "broad_leaved": Material(
        dormant=(3.0, 3.8, 5.5, 6.5, 9.0, 12.0, 14.0, 15.5, 17.5, 18.0, 20.0, 12.5),
        active=(2.0, 2.5, 5.0, 2.8, 8.5, 25.0, 31.0, 33.0, 34.5, 35.0, 16.0, 7.5),
        winter=0.0,
    ),
    "coniferous": Material(
        dormant=(2.0, 2.5, 4.0, 3.2, 6.5, 16.0, 19.5, 21.0, 22.0, 22.5, 11.5, 5.5),
        active=(1.8, 2.3, 4.3, 2.6, 7.2, 21.0, 26.0, 28.0, 29.0, 29.5, 12.0, 5.5),
        winter=0.6,
    ),
    "shrub": Material(
        dormant=(4.0, 5.0, 7.0, 8.0, 11.5, 15.5, 17.5, 19.5, 21.5, 22.5, 25.0, 16.5),
        active=(2.5, 3.2, 6.0, 4.2, 10.0, 23.0, 28.0, 30.0, 32.0, 32.0, 19.0, 10.0),
        winter=0.5,
    ),
    "reed": Material(
        dormant=(5.0, 6.5, 9.5, 11.5, 15.0, 19.0, 21.5, 23.5, 25.5, 26.0, 26.0, 17.0),
        active=(2.5, 3.2, 6.0, 4.0, 10.0, 24.0, 29.0, 31.0, 32.5, 33.0, 17.0, 8.5),
        winter=0.2,
    ),
    "water": Material(
        dormant=(3.5, 3.2, 3.0, 2.0, 1.8, 1.4, 1.3, 1.2, 1.1, 1.1, 0.7, 0.5),
        active=(7.0, 7.5, 9.0, 7.0, 5.5, 3.5, 3.2, 2.8, 2.5, 2.3, 1.2, 0.9),
        winter=1.0,
    ),
    "roof": Material(
        dormant=(8.0, 9.5, 12.0, 16.5, 18.0, 19.5, 20.5, 21.5, 22.5, 23.0, 25.0, 23.0),
        active=(17.0, 19.5, 22.0, 24.0, 25.0, 26.0, 27.0, 28.0, 28.5, 29.0, 30.0, 28.0),
        winter=1.0,
    ),
    "asphalt": Material(
        dormant=(6.0, 7.0, 8.0, 8.7, 9.2, 9.8, 10.3, 10.7, 11.2, 11.5, 13.0, 12.0),
        active=(8.0, 9.5, 11.0, 12.0, 12.7, 13.3, 13.8, 14.2, 14.6, 14.9, 16.5, 15.5),
        winter=1.0,
    ),
}

MATERIAL_IDS: dict[str, int] = {name: number for number, name in enumerate(MATERIALS)}
"""Number of each material in maps of materials."""


def _by_channel(percent: tuple[float, ...]) -> Field:
    """Return values by wavelength, in percent, as shares in channel order."""
    by_band = dict(zip(_ORDER, percent, strict=True))
    return np.array([by_band[band] / 100 for band in S2_BANDS], dtype=np.float32)


SNOW = _by_channel((86, 86, 84, 82, 82, 80, 79, 78, 76, 74, 12, 10))
CLOUD = _by_channel((58, 57, 57, 58, 60, 61, 62, 63, 64, 52, 46, 36))
HAZE = _by_channel((100, 85, 62, 45, 40, 36, 33, 30, 29, 27, 12, 8))
"""Light that scattering in the air adds, relative to the shortest wavelength."""


_DORMANT = np.stack([_by_channel(material.dormant) for material in MATERIALS.values()])
_ACTIVE = np.stack([_by_channel(material.active) for material in MATERIALS.values()])
_WINTER = np.array([material.winter for material in MATERIALS.values()], dtype=np.float32)


def reflectance(material: NDArray[np.uint8], state: Field, gain: Field, summer: float) -> Field:
    """Return the reflectance `[C, h, w]` of the ground, in channel order.

    Args:
        material: ids of materials, `[h, w]`.
        state: state of the material in the middle of summer, 0 to 1, `[h, w]`.
        gain: brightness relative to the tables, `[h, w]`.
        summer: season, 0 in the middle of winter, 1 in the middle of summer.
    """
    state = state * (_WINTER + (1 - _WINTER) * np.float32(summer))[material]
    dormant, change = _DORMANT.T, (_ACTIVE - _DORMANT).T
    return np.stack(
        [(base[material] + more[material] * state) * gain for base, more in zip(dormant, change, strict=True)]
    )


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
