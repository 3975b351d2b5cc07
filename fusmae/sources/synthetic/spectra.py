"""What Sentinel-2 measures: reflectance of materials, each a mixture of two end members.

The values are rounded typical values from spectral libraries and published class means; they are not measurements.
A material's `state` (0 to 1) goes from its first spectrum to its second: soil to green crop, bare branches to leaves,
clear to turbid water.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusmae.sources.patches.bands import MODALITIES
from fusmae.sources.synthetic.texture import Field

_ORDER = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
"""S2 bands by wavelength, the order of the tables below."""

S2_BANDS: tuple[str, ...] = MODALITIES["s2"].bands
"""S2 bands in channel order, the order of all arrays of this module."""


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

SNOW = np.array(
    [dict(zip(_ORDER, (86, 86, 84, 82, 82, 80, 79, 78, 76, 74, 12, 10), strict=True))[band] / 100 for band in S2_BANDS],
    dtype=np.float32,
)
CLOUD = np.array(
    [dict(zip(_ORDER, (58, 57, 57, 58, 60, 61, 62, 63, 64, 52, 46, 36), strict=True))[band] / 100 for band in S2_BANDS],
    dtype=np.float32,
)
HAZE = np.array(
    [
        dict(zip(_ORDER, (1.0, 0.85, 0.62, 0.45, 0.4, 0.36, 0.33, 0.3, 0.29, 0.27, 0.12, 0.08), strict=True))[band]
        for band in S2_BANDS
    ],
    dtype=np.float32,
)
"""Light that scattering in the air adds, relative to the shortest wavelength."""


def _by_channel(spectrum: tuple[float, ...]) -> list[float]:
    by_band = dict(zip(_ORDER, spectrum, strict=True))
    return [by_band[band] / 100 for band in S2_BANDS]


_DORMANT = np.array([_by_channel(material.dormant) for material in MATERIALS.values()], dtype=np.float32)
_ACTIVE = np.array([_by_channel(material.active) for material in MATERIALS.values()], dtype=np.float32)
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
