"""Checks that a tile's pixels are what its modality says, before they reach a shard."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.config.task import Value
from fusmae.errors import PairError
from fusmae.modalities import MAP_GSD_M, ModalityInput
from fusmae.rasters.band_names import PRODUCT_NAMES
from fusmae.rasters.raster_file import Flags, nowhere_but
from fusmae.rasters.unit_check import find_mistake
from fusmae.units import Unit

NO_CLASS = 255
"""Value of a pixel without a class in a map of classes; where it has no value in a map of values, it is NaN."""

MIN_PRESENCE = 0.01
"""Share of a map's pixels that have a class which one class must cover to be a label of the whole tile."""

_PRODUCT_NAMES = frozenset(chain(*PRODUCT_NAMES.values()))


def stack_bands(
    key: str, bands: Mapping[str, NDArray[Any]], inputs: Sequence[ModalityInput]
) -> dict[str, NDArray[Any]]:
    """Stack a pair's bands `[h, w]` by name: `[C, h, w]` by input name, in the units of their modality.

    Raises:
        PairError: a band is missing, of another size, NaN or infinite, or a modality has other units.
    """
    for item in inputs:
        for name in item.bands:
            _check_band(key, name, bands, item)
    for modality, unit in {item.modality: item.unit for item in inputs}.items():
        names = [name for item in inputs if item.modality == modality for name in item.bands]
        mistake = find_mistake({name: bands[name] for name in names}, unit)
        # Whether 0 is nodata in other units, the file says; the examination reports it.
        if mistake and (unit.zero_is_nodata == "always" if mistake.is_empty else mistake.is_certain):
            raise PairError(
                "nodata" if mistake.is_empty else "units",
                f"Pair {key}, {mistake.said_of(modality)}.",
                got=mistake.got,
                expected=mistake.expected,
                hint=mistake.hint,
            )
    return {item.name: _stacked(key, bands, item) for item in inputs}


def all_bands_are(
    value_in: Callable[[Unit], float | None], pixels: Mapping[str, NDArray[Any]], inputs: Sequence[ModalityInput]
) -> dict[str, Flags]:
    """Flags `[B, h, w]` by input name, true where all bands of a modality at all of its resolutions have one value.

    `pixels` are arrays `[B, C, h, w]` by input name; `value_in` returns the value in a unit, None for nowhere.
    """
    found: dict[str, Flags] = {}
    for modality, unit in {item.modality: item.unit for item in inputs}.items():
        names = [item.name for item in inputs if item.modality == modality]
        value = np.nan if (wanted := value_in(unit)) is None else wanted
        found.update(zip(names, nowhere_but(value, [pixels[name] for name in names]), strict=True))
    return found


def _check_band(key: str, name: str, bands: Mapping[str, NDArray[Any]], item: ModalityInput) -> None:
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
    band, wanted = bands[name], (item.side_px, item.side_px)
    if band.shape != wanted:
        advice = ": tiles are square"
        if len(set(band.shape)) == 1:
            advice = (
                f"; where all tiles have this size, set data.tile_m to {band.shape[0] * item.gsd_m} in params.yaml, "
                "and leave the resolutions that don't divide it out of data.modalities"
            )
        raise PairError(
            "grid",
            f"Pair {key}, band {name}: wrong size.",
            got=f"{band.shape} px",
            expected=f"{wanted} px at {item.gsd_m} m",
            hint=f"cut this tile to {item.side_px * item.gsd_m} m{advice}",
        )
    bad = int(band.size - np.isfinite(band).sum())
    if bad:
        raise PairError(
            "nodata",
            f"Pair {key}, band {name}: {bad} of {band.size} pixels are NaN or infinite.",
            expected="finite pixels",
            hint="leave the pair out, or fill its nodata; then `fusmae update`",
        )


def _stacked(key: str, bands: Mapping[str, NDArray[Any]], item: ModalityInput) -> NDArray[Any]:
    """Stack one array's bands `[C, h, w]`, and refuse those whose pixels can't be stored."""
    unit, dtype = item.unit, np.dtype(item.unit.dtype)
    low, high = unit.limits
    for name in item.bands:
        band = bands[name]
        if band.min() < low or band.max() > high or (dtype.kind != "f" and not _is_whole(band)):
            kind = "numbers" if dtype.kind == "f" else "whole numbers"
            raise PairError(
                "units",
                f"Pair {key}, band {name}: not {unit.noun}.",
                got=f"{band.dtype} from {band.min():.4g} to {band.max():.4g}",
                expected=f"{kind} from {low:g} to {high:g}, {unit.description}",
                hint="fill nodata values, and bring pixels in this unit; then `fusmae update`",
            )
    return np.stack([bands[name] for name in item.bands]).astype(dtype, copy=False)


def _is_whole(band: NDArray[Any]) -> bool:
    return np.issubdtype(band.dtype, np.integer) or bool((band == np.round(band)).all())


def check_map(key: str, pixels: NDArray[Any], side_px: int, num_classes: int) -> NDArray[np.uint8]:
    """Return a pair's map of classes `[h, w]` as uint8 after checking its size and its class numbers.

    Raises:
        PairError: the map has another size, or a number that belongs to no class.
    """
    _check_side(key, pixels, side_px)
    unknown, counts = np.unique(pixels[(pixels >= num_classes) & (pixels != NO_CLASS)], return_counts=True)
    if unknown.size:
        raise PairError(
            "labels",
            f"Pair {key}: the map has numbers of no class.",
            got=", ".join(f"{number} in {count:,} px" for number, count in zip(unknown[:5], counts, strict=False)),
            expected=f"below {num_classes}, or {NO_CLASS} for no class",
        )
    return pixels.astype(np.uint8, copy=False)


def check_value_map(key: str, pixels: NDArray[Any], side_px: int, value: Value) -> NDArray[np.float32]:
    """Return a pair's map of values `[h, w]` as float32, NaN where there is none, after checking size and numbers.

    Raises:
        PairError: the map has another size, no value at all, or one that its quantity can't have.
    """
    _check_side(key, pixels, side_px)
    has_value = np.isfinite(pixels)
    if not has_value.any():
        raise _empty_map(key, "value")
    require_possible_values(f"Pair {key}: the map", pixels[has_value], value)
    return np.where(has_value, pixels, np.nan).astype(np.float32, copy=False)


def require_possible_values(where: str, numbers: NDArray[Any], value: Value) -> None:
    """Refuse numbers that a quantity can't have; `where` begins the error's sentence.

    Raises:
        PairError: some are out of the limits.
    """
    low, high = (-np.inf if value.min is None else value.min), (np.inf if value.max is None else value.max)
    wrong = numbers[(numbers < low) | (numbers > high)]
    if wrong.size:
        raise PairError(
            "labels",
            f"{where} has numbers that {value.name} can't have.",
            got=f"{wrong.size:,} of {numbers.size:,}, such as {wrong.min() if low > wrong.min() else wrong.max():g}",
            expected=f"{value.range} {value.unit}, as data.source.value states".replace("  ", " "),
            hint="mark pixels without data as nodata in the file, or state other limits; then `fusmae update`",
        )


def classes_in(key: str, pixels: NDArray[np.uint8], num_classes: int) -> NDArray[np.uint8]:
    """Which classes a map `[h, w]` has: `[K]`, 1 where a class covers `MIN_PRESENCE` of the pixels that have one.

    Raises:
        PairError: no pixel has a class.
    """
    counts = np.bincount(pixels.ravel(), minlength=NO_CLASS + 1)[:num_classes]
    if not counts.any():
        raise _empty_map(key, "class")
    return np.asarray(counts >= MIN_PRESENCE * counts.sum(), np.uint8)


def _empty_map(key: str, what: str) -> PairError:
    return PairError(
        "labels",
        f"Pair {key}: no pixel of the map has a {what}.",
        expected=f"some pixels with a {what}",
        hint="leave the pair out of the table, or go on without such pairs by data.tolerated.labels",
    )


def _check_side(key: str, pixels: NDArray[Any], side_px: int) -> None:
    if pixels.shape != (side_px, side_px):
        raise PairError(
            "grid",
            f"Pair {key}: the map has another size.",
            got=f"{pixels.shape} px",
            expected=f"{(side_px, side_px)} px at {MAP_GSD_M} m",
        )
