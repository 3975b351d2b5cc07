"""What the satellites measure of a surface: reflectance of materials (S2), backscatter of scatterers (S1).

All values are rounded typical ones, from spectral libraries, published class means and C-band literature; they are not
measurements. A material is a mixture of two end members: its `state` (0 to 1) goes from its first spectrum to its
second, such as soil to green crop, bare branches to leaves, clear to turbid water. A scatterer goes from smooth to
rough. Speckle multiplies power by a Gamma variable of `ENL` looks, as in a ground range detected product; unlike in
such a product, neighbouring pixels are independent.
"""

import numpy as np
from numpy.typing import NDArray

from fusmae.modalities import BIGEARTHNET
from fusmae.sources.synthetic.texture import Field

_ORDER = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
"""S2 bands by wavelength, the order of the tables below."""

S2_BANDS = BIGEARTHNET["s2"].bands
"""S2 bands in channel order, the order of arrays of reflectance."""

ENL = 4.4
"""Equivalent number of looks: mean² / variance of power over even ground."""


# Reflectance in percent by wavelength at state 0.
_DORMANT = {
    "crop": (7.5, 9.0, 12.0, 15.5, 18.5, 20.5, 22.5, 24.0, 26.0, 27.0, 32.5, 28.0),
    "grass": (4.5, 6.0, 9.0, 10.5, 14.5, 20.0, 23.0, 25.0, 27.0, 28.0, 29.0, 19.0),
    "broad_leaved": (3.0, 3.8, 5.5, 6.5, 9.0, 12.0, 14.0, 15.5, 17.5, 18.0, 20.0, 12.5),
    "coniferous": (2.0, 2.5, 4.0, 3.2, 6.5, 16.0, 19.5, 21.0, 22.0, 22.5, 11.5, 5.5),
    "shrub": (4.0, 5.0, 7.0, 8.0, 11.5, 15.5, 17.5, 19.5, 21.5, 22.5, 25.0, 16.5),
    "reed": (5.0, 6.5, 9.5, 11.5, 15.0, 19.0, 21.5, 23.5, 25.5, 26.0, 26.0, 17.0),
    "water": (3.5, 3.2, 3.0, 2.0, 1.8, 1.4, 1.3, 1.2, 1.1, 1.1, 0.7, 0.5),
    "roof": (8.0, 9.5, 12.0, 16.5, 18.0, 19.5, 20.5, 21.5, 22.5, 23.0, 25.0, 23.0),
    "asphalt": (6.0, 7.0, 8.0, 8.7, 9.2, 9.8, 10.3, 10.7, 11.2, 11.5, 13.0, 12.0),
}
# The same at state 1.
_ACTIVE = {
    "crop": (3.0, 3.5, 7.0, 4.0, 11.0, 30.0, 38.0, 40.0, 42.0, 42.0, 20.0, 10.0),
    "grass": (3.0, 4.0, 7.5, 5.0, 12.0, 28.0, 34.0, 36.0, 38.0, 38.0, 21.0, 11.0),
    "broad_leaved": (2.0, 2.5, 5.0, 2.8, 8.5, 25.0, 31.0, 33.0, 34.5, 35.0, 16.0, 7.5),
    "coniferous": (1.8, 2.3, 4.3, 2.6, 7.2, 21.0, 26.0, 28.0, 29.0, 29.5, 12.0, 5.5),
    "shrub": (2.5, 3.2, 6.0, 4.2, 10.0, 23.0, 28.0, 30.0, 32.0, 32.0, 19.0, 10.0),
    "reed": (2.5, 3.2, 6.0, 4.0, 10.0, 24.0, 29.0, 31.0, 32.5, 33.0, 17.0, 8.5),
    "water": (7.0, 7.5, 9.0, 7.0, 5.5, 3.5, 3.2, 2.8, 2.5, 2.3, 1.2, 0.9),
    "roof": (17.0, 19.5, 22.0, 24.0, 25.0, 26.0, 27.0, 28.0, 28.5, 29.0, 30.0, 28.0),
    "asphalt": (8.0, 9.5, 11.0, 12.0, 12.7, 13.3, 13.8, 14.2, 14.6, 14.9, 16.5, 15.5),
}
# Factor on the state in the middle of winter; a material that is absent has no seasons.
_WINTER = {"crop": 0.45, "grass": 0.4, "broad_leaved": 0.0, "coniferous": 0.6, "shrub": 0.5, "reed": 0.2}

MATERIAL_IDS: dict[str, int] = {name: number for number, name in enumerate(_DORMANT)}
"""Number of each material in maps of materials."""


def _by_channel(percent: tuple[float, ...]) -> Field:
    """Return values by wavelength, in percent, as shares in channel order."""
    by_band = dict(zip(_ORDER, percent, strict=True))
    return np.array([by_band[band] / 100 for band in S2_BANDS], dtype=np.float32)


SNOW = _by_channel((86, 86, 84, 82, 82, 80, 79, 78, 76, 74, 12, 10))
CLOUD = _by_channel((58, 57, 57, 58, 60, 61, 62, 63, 64, 52, 46, 36))
HAZE = _by_channel((100, 85, 62, 45, 40, 36, 33, 30, 29, 27, 12, 8))
"""Light that scattering in the air adds, relative to the shortest wavelength."""

_BASES = np.stack([_by_channel(_DORMANT[name]) for name in MATERIAL_IDS], axis=1)
_CHANGES = np.stack([_by_channel(_ACTIVE[name]) for name in MATERIAL_IDS], axis=1) - _BASES
_WINTERS = np.array([_WINTER.get(name, 1.0) for name in MATERIAL_IDS], dtype=np.float32)
# What has seasons grows.
_GROWS = np.array([name in _WINTER for name in MATERIAL_IDS])

# Backscatter in dB of (VV, VH) at roughness 0 and at roughness 1.
_SCATTERERS = {
    "field": ((-15.0, -22.0), (-8.0, -15.0)),
    "forest": ((-11.5, -17.0), (-8.5, -13.5)),
    "bush": ((-15.5, -21.5), (-7.5, -13.5)),
    "water": ((-23.0, -28.0), (-17.0, -25.0)),
    # Stems over water: the double-bounce echo is mostly in VV.
    "flooded": ((-9.0, -17.0), (-6.0, -14.5)),
    "meadow": ((-14.5, -21.5), (-11.5, -18.0)),
    # Walls beside streets: a double bounce too, whose strength depends on the orientation of the wall.
    "wall": ((-10.0, -17.0), (1.0, -7.0)),
    "street": ((-16.5, -23.0), (-13.0, -20.0)),
}

SCATTERER_IDS: dict[str, int] = {name: number for number, name in enumerate(_SCATTERERS)}
"""Number of each scatterer in maps of scatterers."""

_SMOOTH_DB, _ROUGH_DB = np.array(list(_SCATTERERS.values()), dtype=np.float32).transpose(1, 2, 0)


def reflectance(material: NDArray[np.uint8], state: Field, gain: Field, summer: float) -> Field:
    """Return the reflectance `[C, h, w]` of the ground, in channel order.

    `material` holds ids, `state` is 0 to 1 in the middle of summer, and `gain` is brightness relative to the tables,
    `[h, w]` each. `summer` is 0 in the middle of winter, 1 in the middle of summer.
    """
    state = _state_in_season(material, state, summer)
    return np.stack(
        [(base[material] + change[material] * state) * gain for base, change in zip(_BASES, _CHANGES, strict=True)]
    )


def greenness(material: NDArray[np.uint8], state: Field, summer: float) -> Field:
    """Return how green the ground is in a season, 0 to 1, `[h, w]`; 0 where nothing grows. See `reflectance`."""
    return np.asarray(_state_in_season(material, state, summer) * _GROWS[material], dtype=np.float32)


def _state_in_season(material: NDArray[np.uint8], state: Field, summer: float) -> Field:
    return state * (_WINTERS + (1 - _WINTERS) * np.float32(summer))[material]


def backscatter_db(scatterer: NDArray[np.uint8], rough: Field, shift_db: Field) -> Field:
    """Return backscatter in dB without speckle, `[C, h, w]`, in channel order.

    `scatterer` holds ids, `rough` is 0 to 1, and `shift_db` is what moisture and slope add in dB, `[h, w]` each.
    """
    bands = zip(_SMOOTH_DB, _ROUGH_DB - _SMOOTH_DB, strict=True)
    return np.stack([base[scatterer] + change[scatterer] * rough + shift_db for base, change in bands])


def with_speckle(random: np.random.Generator, level_db: Field) -> Field:
    """Return the same backscatter with the speckle of one acquisition: float32 in dB, of the same shape."""
    looks = random.standard_gamma(ENL, size=level_db.shape, dtype=np.float32) / np.float32(ENL)
    # A Gamma draw may round to 0, which has no logarithm.
    return np.asarray(level_db + 10 * np.log10(np.maximum(looks, np.float32(1e-4))), dtype=np.float32)
