"""The bands of a BigEarthNet pair on disk, with their types and sizes."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from fusmae.errors import PairError
from fusmae.modalities import BIGEARTHNET, modality_inputs
from fusmae.sources.shared.raster import require_pixels

# Advice to the user where a file is absent, damaged or of another kind.
RESTORE = (
    "restore the files from the dataset's archives, or remove the folder of all patches and `dvc repro -f -s fetch`"
)

PATCH_M = 1200
"""Side length of a patch in metres."""


def validate_bands(key: str, bands: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return a pair's bands in channel order after checking that all are present, with the right size and type.

    These are float32 dB `[120, 120]` for S1, and uint16 `[120, 120]`, `[60, 60]` or `[20, 20]` for S2.

    Raises:
        PairError: a band is missing, or of another size or type.
    """
    validated = {}
    for item in modality_inputs(BIGEARTHNET, PATCH_M):
        for band in item.bands:
            if band not in bands:
                problem, expected = f"Pair {key} has no band {band}.", f"all of {item.modality}'s bands"
                raise PairError("incomplete", problem, got=sorted(bands), expected=expected, hint=RESTORE)
            shape, dtype = (item.side_px, item.side_px), item.unit.dtype
            require_pixels(key, f"band {band}", bands[band], shape, dtype, units=item.unit.noun, hint=RESTORE)
            validated[band] = bands[band]
    return validated
