"""How pixels are stored: as 16-bit integers, with a step for each unit."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.modalities import Units

STORED_DTYPES: dict[Units, np.dtype[Any]] = {"dB": np.dtype(np.int16), "DN": np.dtype(np.uint16)}

STEP_DB = 0.01
"""Step in which backscatter is stored. The error is at most 0.005 dB, a hundredth of speckle's uncertainty."""


def to_stored(pixels: NDArray[Any], units: Units) -> NDArray[Any]:
    """Convert checked physical pixels of any shape to their stored form; DN are stored without loss."""
    if units == "dB":
        return np.rint(pixels * (1 / STEP_DB)).astype(STORED_DTYPES[units])
    return pixels.astype(STORED_DTYPES[units], copy=False)


def to_physical(stored: NDArray[Any], units: Units) -> NDArray[Any]:
    """Convert stored pixels to physical units: float32 dB, uint16 DN."""
    if units == "dB":
        return stored * np.float32(STEP_DB)
    return stored
