"""How pixels are stored: 16-bit integers, each unit in its own step."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.modalities import Units

STORED_DTYPES: dict[Units, np.dtype[Any]] = {"dB": np.dtype(np.int16), "DN": np.dtype(np.uint16)}

STEP_DB = 0.01
"""Backscatter is kept in hundredths of a dB: at most 0.005 dB off, a hundredth of what speckle leaves uncertain."""


def to_stored(pixels: NDArray[Any], units: Units) -> NDArray[Any]:
    """Checked physical pixels of any shape as they are stored; DN loses nothing."""
    if units == "dB":
        return np.rint(pixels * (1 / STEP_DB)).astype(STORED_DTYPES[units])
    return pixels.astype(STORED_DTYPES[units], copy=False)


def to_physical(stored: NDArray[Any], units: Units) -> NDArray[Any]:
    """Stored pixels in physical units: float32 dB, uint16 DN."""
    if units == "dB":
        return stored * np.float32(STEP_DB)
    return stored
