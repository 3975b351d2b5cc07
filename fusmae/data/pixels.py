"""Checks that a tile's pixels are what its modality says, before they reach a shard."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.errors import PairError
from fusmae.modalities import ModalityInput, Units

PIXEL_DTYPES: dict[Units, np.dtype[Any]] = {"dB": np.dtype(np.float32), "DN": np.dtype(np.uint16)}


_FARTHEST_DB = 300.0
"""What the shards' 16-bit hundredths of a dB can hold; nothing on earth is near it."""


def stack_bands(key: str, bands: dict[str, NDArray[Any]], item: ModalityInput) -> NDArray[Any]:
    """Stack one input's bands by name.

    Args:
        key: the pair's key, for errors.
        bands: `[h, w]` arrays by band name.
        item: which bands, in which order and of what size.

    Returns:
        `[C, h, w]` float32 dB or uint16 DN.

    Raises:
        PairError: a band is missing, of another size, NaN or infinite, or in linear power.
    """
    for name in item.bands:
        if name not in bands:
            raise PairError(
                "incomplete", f"Pair {key} has no band {name}.", got=sorted(bands), expected=list(item.bands)
            )
        _check_band(f"Pair {key}, band {name}", bands[name], item)
    return np.stack([bands[name] for name in item.bands]).astype(PIXEL_DTYPES[item.units], copy=False)


def _check_band(what: str, band: NDArray[Any], item: ModalityInput) -> None:
    wanted = (item.side_px, item.side_px)
    if band.shape != wanted:
        raise PairError(
            "grid", f"{what}: wrong size.", got=f"{band.shape} px", expected=f"{wanted} px at {item.gsd_m} m"
        )
    bad = int(band.size - np.isfinite(band).sum())
    if bad:
        raise PairError(
            "nodata",
            f"{what}: {bad} of {band.size} pixels are NaN or infinite.",
            expected="finite pixels",
            hint="leave the pair out, or fill its nodata; then `dvc repro -f -s shard`",
        )
    if item.units == "dB" and band.min() >= 0:
        # Backscatter of natural surfaces is below 0 dB nearly everywhere; power is never negative.
        raise PairError(
            "units",
            f"{what}: looks like linear power, not dB.",
            got=f"{band.min():.4g} to {band.max():.4g}",
            expected="dB, mostly between -30 and 0",
            hint="convert with 10 * log10(power) first",
        )
    if item.units == "dB" and max(abs(band.min()), abs(band.max())) > _FARTHEST_DB:
        raise PairError(
            "units",
            f"{what}: no backscatter in dB.",
            got=f"{band.min():.4g} to {band.max():.4g}",
            expected=f"dB, at most {_FARTHEST_DB:g} from 0",
            hint="fill nodata values, then `dvc repro -f -s shard`",
        )
    if item.units == "DN" and (band.min() < 0 or band.max() > np.iinfo(np.uint16).max or not _is_whole(band)):
        raise PairError(
            "units",
            f"{what}: not digital numbers.",
            got=f"{band.dtype} from {band.min():.4g} to {band.max():.4g}",
            expected="whole numbers from 0 to 65535 (reflectance times 10,000)",
        )


def _is_whole(band: NDArray[Any]) -> bool:
    return np.issubdtype(band.dtype, np.integer) or bool((band == np.round(band)).all())
