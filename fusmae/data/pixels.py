"""Checks that a tile's pixels are what its modality says, before they reach a shard."""

import difflib
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.errors import PairError
from fusmae.modalities import ModalityInput, Units
from fusmae.rasters.band_names import PRODUCT_NAMES
from fusmae.rasters.raster_file import Flags, nowhere_but

PIXEL_DTYPES: dict[Units, np.dtype[Any]] = {"dB": np.dtype(np.float32), "DN": np.dtype(np.uint16)}

NO_CLASS = 255
"""Value of a land-cover map's pixel that has no class."""

_MAP_GSD_M = 10
_FARTHEST_DB = 300.0
"""Largest distance from 0 dB: shards store hundredths of a dB in 16 bits. Real backscatter is far below it."""

_PRODUCT_NAMES = frozenset(chain(*PRODUCT_NAMES.values()))


def stack_bands(key: str, bands: dict[str, NDArray[Any]], item: ModalityInput) -> NDArray[Any]:
    """Stack one input's bands by name.

    Args:
        key: key of the pair, for error messages.
        bands: arrays `[h, w]` by band name.
        item: description of the input: its bands, their order and size.

    Returns:
        `[C, h, w]` float32 dB or uint16 DN.

    Raises:
        PairError: a band is missing, of another size, NaN or infinite, or in linear power.
    """
    for name in item.bands:
        if name not in bands:
            # When both names are valid product names, the other one is another band and not a misspelling.
            others = [band for band in bands if not {band, name} <= _PRODUCT_NAMES]
            near = difflib.get_close_matches(name, others, n=2, cutoff=0.5)
            mend = f"did you mean {' or '.join(near)}? Name it in" if near else "bring the band; or change"
            raise PairError(
                "incomplete",
                f"Pair {key} has no band {name}.",
                got=sorted(bands),
                expected=list(item.bands),
                hint=f"{mend} data.modalities in params.yaml; where no pair has {name}, leave it out there",
            )
        _check_band(f"Pair {key}, band {name}", bands[name], item)
    return np.stack([bands[name] for name in item.bands]).astype(PIXEL_DTYPES[item.units], copy=False)


def all_bands_are(value: int, pixels: Mapping[str, NDArray[Any]], inputs: Sequence[ModalityInput]) -> dict[str, Flags]:
    """Where all bands of a modality, at all of its resolutions, have the same given value: 0 means nodata there.

    Args:
        value: value to look for.
        pixels: arrays `[B, C, h, w]` by input name.
        inputs: descriptions of these arrays.

    Returns:
        Flags `[B, h, w]` by input name.
    """
    found: dict[str, Flags] = {}
    for modality in dict.fromkeys(item.modality for item in inputs):
        names = [item.name for item in inputs if item.modality == modality]
        found.update(zip(names, nowhere_but(value, [pixels[name] for name in names]), strict=True))
    return found


def _check_band(what: str, band: NDArray[Any], item: ModalityInput) -> None:
    wanted = (item.side_px, item.side_px)
    if band.shape != wanted:
        raise PairError(
            "grid",
            f"{what}: wrong size.",
            got=f"{band.shape} px",
            expected=f"{wanted} px at {item.gsd_m} m",
            hint=_size_hint(band.shape, item),
        )
    bad = int(band.size - np.isfinite(band).sum())
    if bad:
        raise PairError(
            "nodata",
            f"{what}: {bad} of {band.size} pixels are NaN or infinite.",
            expected="finite pixels",
            hint="leave the pair out, or fill its nodata; then `fusmae update`",
        )
    if item.units == "dB" and band.min() >= 0:
        # Backscatter of natural surfaces is below 0 dB nearly everywhere; power is never negative.
        raise PairError(
            "units",
            f"{what}: looks like linear power or amplitude, not dB.",
            got=f"{band.min():.4g} to {band.max():.4g}",
            expected="dB, mostly between -30 and 0",
            hint="find out which it is, then convert it first: 10 * log10 of power, 20 * log10 of amplitude",
        )
    if item.units == "dB" and max(abs(band.min()), abs(band.max())) > _FARTHEST_DB:
        raise PairError(
            "units",
            f"{what}: no backscatter in dB.",
            got=f"{band.min():.4g} to {band.max():.4g}",
            expected=f"dB, at most {_FARTHEST_DB:g} from 0",
            hint="fill nodata values, then `fusmae update`",
        )
    if item.units == "DN" and (band.min() < 0 or band.max() > np.iinfo(np.uint16).max or not _is_whole(band)):
        raise PairError(
            "units",
            f"{what}: not digital numbers.",
            got=f"{band.dtype} from {band.min():.4g} to {band.max():.4g}",
            expected="whole numbers from 0 to 65535 (reflectance times 10,000)",
            hint="store reflectance times 10,000, rounded, as uint16",
        )


def _size_hint(shape: tuple[int, ...], item: ModalityInput) -> str:
    cut = f"cut this tile to {item.side_px * item.gsd_m} m"
    if len(set(shape)) != 1:
        return f"{cut}: tiles are square"
    return (
        f"{cut}; where all tiles have this size, set data.tile_m to {shape[0] * item.gsd_m} in params.yaml, and leave "
        "the resolutions that don't divide it out of data.modalities"
    )


def _is_whole(band: NDArray[Any]) -> bool:
    return np.issubdtype(band.dtype, np.integer) or bool((band == np.round(band)).all())


def map_side_px(inputs: Sequence[ModalityInput]) -> int:
    """Height and width of a tile's land-cover map in pixels: always on a 10 m grid, whatever the bands' resolution."""
    return inputs[0].side_px * inputs[0].gsd_m // _MAP_GSD_M


def check_map(key: str, land_cover: NDArray[Any], side_px: int, num_classes: int) -> NDArray[np.uint8]:
    """Return a land-cover map as uint8 after checking its size and its class numbers.

    Args:
        key: key of the pair, for error messages.
        land_cover: class numbers `[h, w]`, or `NO_CLASS`.
        side_px: expected height and width in pixels.
        num_classes: number of classes of the maps.

    Raises:
        PairError: the map has another size, or a number that belongs to no class.
    """
    if land_cover.shape != (side_px, side_px):
        raise PairError(
            "grid",
            f"Pair {key}: the land-cover map has another size.",
            got=f"{land_cover.shape} px",
            expected=f"{(side_px, side_px)} px at {_MAP_GSD_M} m",
        )
    unknown = np.setdiff1d(land_cover, [*range(num_classes), NO_CLASS])
    if unknown.size:
        raise PairError(
            "labels",
            f"Pair {key}: the land-cover map has numbers of no class.",
            got=unknown[:5].tolist(),
            expected=f"below {num_classes}, or {NO_CLASS} for no class",
        )
    return land_cover.astype(np.uint8, copy=False)
