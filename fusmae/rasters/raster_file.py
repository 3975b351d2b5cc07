"""What a raster file states about itself, read in the same way for training, maps and the service.

- **Scale and offset** are applied. Pixels are then in the units of the file (for backscatter dB, or power). For digital
  numbers (reflectance times 10,000), a stated scale below `MAX_QUANTITY_STEP` gives reflectance, which is multiplied by
  10,000 (scale 0.0001 and offset -0.1 subtract 1000); a coarser scale, or an offset alone, gives digital numbers.
  Numbers that the offset makes slightly negative become 0. A scale that leads to impossible pixels is refused.
- **Nodata** are the pixels that have a band's nodata value, that are not finite, or that the file's mask (internal or
  beside it) or alpha band hides. An alpha band is not a data band.
- **0** is a value, unless the file states it as nodata, or all bands of a modality are 0 and `zero_is_nodata` is true.
- Rows from south to north and columns from east to west are reversed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.errors import InputError
from fusmae.modalities import Units
from fusmae.units import UNITS

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]

MAX_QUANTITY_STEP = 0.05
"""Scale below which stored numbers become a quantity such as reflectance, otherwise the unit that counts its
ten-thousandths: no file stores reflectance in only twenty steps."""

STATED, MASKED, NOT_FINITE = "stated as nodata", "masked", "not finite"
"""Reasons why a pixel is nodata."""

# Fewer pixels don't show that a scale is impossible.
_FEW_PIXELS = 500
# Atmospheric correction makes dark pixels a little less than the lowest possible; more pixels have a wrong offset.
_MAX_OVERSHOOT_DN, _MAX_FAR_BELOW_SHARE = 300.0, 0.05
_SAMPLE_PX = 128
_STATE = (
    "python -c \"import rasterio, sys; d = rasterio.open(sys.argv[1], 'r+'); d.scales = (%g,) * d.count; d.close()\" %s"
)
_UNSTATE = (
    "python -c \"import rasterio, sys; d = rasterio.open(sys.argv[1], 'r+'); d.scales = (1,) * d.count; "
    'd.offsets = (0,) * d.count; d.close()" FILE'
)


@dataclass(frozen=True)
class Statement:
    """What a file states about some of its bands."""

    indexes: tuple[int, ...]  # numbers of the bands in the file, counted from 1
    nodata: tuple[float | None, ...]  # nodata value by band; None where none is stated
    factors: tuple[float, ...]  # factors by band that convert stored numbers to the modality's units
    offsets: tuple[float, ...]  # numbers by band that are added after the multiplication
    text: str = ""  # scale and offset as the file states them, for errors; "" where it states none
    alpha: int | None = None  # number of the alpha band; None where there is none
    has_mask: bool = False  # whether the file has a mask, internal or beside it

    @property
    def is_scaled(self) -> bool:
        """Whether stored numbers are in other units than the modality's."""
        return bool(self.text)


@dataclass(frozen=True)
class Bands:
    """Pixels of some bands."""

    stored: NDArray[Any]  # pixels `[C, h, w]` in the file's own type
    why: dict[str, Flags]  # flags of nodata, `[C, h, w]` or `[1, h, w]`, by reason; only reasons that occur
    statement: Statement  # statements of the file about these bands

    @property
    def is_nodata(self) -> Flags | None:
        """Flags `[C, h, w]`, true where a band has no data; None where every pixel has data."""
        return np.broadcast_to(reduce(np.logical_or, self.why.values()), self.stored.shape) if self.why else None

    def in_units(self, units: Units) -> Floats:
        """Return pixels `[C, h, w]` in the modality's units, NaN where a band has no data."""
        values = scaled(self.stored, self.statement, units)
        for empty in self.why.values():
            np.copyto(values, np.nan, where=empty)
        return values


def data_bands(dataset: Any) -> tuple[int, ...]:
    """Return the numbers of a file's bands without its alpha band."""
    alpha = _alpha_band(dataset)
    return tuple(index for index in dataset.indexes if index != alpha)


def statement_of(name: object, dataset: Any, units: Units | None, indexes: Sequence[int] | None = None) -> Statement:
    """Read what an open rasterio dataset states about the bands of these numbers; about all except alpha if None.

    `units` are those of a modality; None for other numbers, such as classes or heights.

    Raises:
        InputError: a scale is 0, negative or not finite, or an offset is not finite.
    """
    from rasterio.enums import MaskFlags

    chosen = tuple(indexes) if indexes is not None else data_bands(dataset)
    stated = [(dataset.scales[index - 1], dataset.offsets[index - 1]) for index in chosen]
    texts = [f"scale {scale:g}, offset {offset:g}" for scale, offset in stated]
    for (scale, offset), text in zip(stated, texts, strict=True):
        if not (math.isfinite(scale) and scale > 0 and math.isfinite(offset)):
            raise InputError(
                f"{name} states a scale that makes no pixels.",
                got=text,
                expected="a scale above 0",
                hint=_unstate(name, units),
            )
    converted = [in_units(*pair, units) for pair in stated]
    flags = dataset.mask_flag_enums[0]
    return Statement(
        indexes=chosen,
        nodata=tuple(dataset.nodatavals[index - 1] for index in chosen),
        factors=tuple(factor for factor, _ in converted),
        offsets=tuple(offset for _, offset in converted),
        text="; ".join(dict.fromkeys(texts)) if any(pair != (1.0, 0.0) for pair in stated) else "",
        alpha=_alpha_band(dataset),
        has_mask=MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags,
    )


def read_bands(dataset: Any, statement: Statement, window: Any = None) -> Bands:
    """Read the bands of a file's statement and their nodata, in a rasterio window or whole.

    Raises:
        rasterio.errors.RasterioError: the file is damaged.
    """
    stored: NDArray[Any] = dataset.read(list(statement.indexes), window=window)
    why: dict[str, Flags] = {}
    if any(value is not None for value in statement.nodata):
        why[STATED] = _stated_nodata(stored, statement.nodata)
    if statement.has_mask:
        why[MASKED] = dataset.read_masks(statement.indexes[0], window=window)[None] == 0
    if statement.alpha is not None:
        why[MASKED] = why.get(MASKED, False) | (dataset.read(statement.alpha, window=window)[None] == 0)
    if stored.dtype.kind == "f":
        # NaN is nodata in floating-point files, whether or not they state it as nodata.
        why[NOT_FINITE] = ~np.isfinite(_as_float32(stored) if stored.dtype.itemsize > 4 else stored)
    return Bands(stored, {reason: flags for reason, flags in why.items() if flags.any()}, statement)


def scaled(stored: NDArray[Any], statement: Statement, units: Units | None, *, is_clipped: bool = True) -> Floats:
    """Stored numbers `[C, h, w]` in the modality's units; `is_clipped` makes slightly negative digital numbers 0."""
    if not statement.is_scaled:
        return _as_float32(stored)
    factors, offsets = (np.array(part)[:, None, None] for part in (statement.factors, statement.offsets))
    values = stored * factors + offsets
    if units is not None and UNITS[units].quantity == "reflectance" and is_clipped:
        # Atmospheric correction makes the reflectance of the darkest water slightly negative.
        values[(values < 0) & (values >= offsets)] = 0
    return _as_float32(values)


def _as_float32(values: NDArray[Any]) -> Floats:
    with np.errstate(over="ignore"):  # numbers too large for float32 become infinite, which is nodata
        return values.astype(np.float32)


def in_units(scale: float, offset: float, units: Units | None) -> tuple[float, float]:
    """Return a stated scale and offset as those that lead from stored numbers to a modality's units, if it has any."""
    per_quantity = 1 if units is None else UNITS[units].per_quantity
    if per_quantity != 1 and scale < MAX_QUANTITY_STEP:
        # Rounded to 12 digits, so that 10,000 times 0.0001 is exactly 1.
        return float(f"{scale * per_quantity:.12g}"), float(f"{offset * per_quantity:.12g}")
    return scale, offset


def zero_is_nodata(nodata: Sequence[float | None], units: Units) -> bool:
    """Return whether a pixel that is 0 in all bands of a modality is nodata, by the values that each band states."""
    when = UNITS[units].zero_is_nodata
    return when == "always" or (when == "by default" and any(value is None or value == 0 for value in nodata))


def touched(flags: Flags, shape: tuple[int, ...]) -> Flags:
    """Resample flags `[..., h, w]` to another grid on the same ground: true where a true pixel lies in or over one."""
    for axis, size in zip((-2, -1), shape, strict=True):
        if size != flags.shape[axis]:
            flags = np.logical_or.reduceat(flags, np.arange(size) * flags.shape[axis] // size, axis=axis)
    return flags


def nowhere_but(value: float, arrays: Sequence[NDArray[Any]]) -> list[Flags]:
    """Find where all bands of a modality have one value, over all of its resolutions.

    Returns:
        Flags `[..., h, w]` per array `[..., C, h, w]`, of which each has its own resolution on the same ground: true
        where its bands and all other bands of that ground have the value.
    """
    same = [(array == value).all(axis=-3) for array in arrays]
    if len(same) == 1 or not any(flags.any() for flags in same):
        return same
    return [
        flags & ~np.any([touched(~other, flags.shape[-2:]) for other in same if other is not flags], axis=0)
        for flags in same
    ]


def require_possible(name: object, samples: Sequence[Bands], units: Units, hint: str = "") -> None:
    """Raise InputError for pixels, from windows of a file, that its stated scale or offset makes impossible.

    `hint` says how the statement is mended where it is not in the file.
    """
    statement, unit = samples[0].statement, UNITS[units]
    if not statement.is_scaled:
        return
    parts = []
    for bands in samples:
        has_data = np.ones(bands.stored.shape, np.bool_) if bands.is_nodata is None else ~bands.is_nodata
        parts.append((bands.stored[has_data], scaled(bands.stored, statement, units, is_clipped=False)[has_data]))
    stored, numbers = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    if numbers.size < _FEW_PIXELS:
        return
    low, median, high = (float(value) for value in np.percentile(numbers, [1, 50, 99]))
    far_below = float((numbers < unit.limits[0] - _MAX_OVERSHOOT_DN).mean())
    # Floats that are the quantity itself need no scale below that of digital numbers.
    is_quantity = stored.dtype.kind == "f" and float(np.percentile(stored, 99)) <= unit.limits[1] / unit.per_quantity
    is_applied = (
        unit.per_quantity != 1 and is_quantity and max(statement.factors) < unit.per_quantity * MAX_QUANTITY_STEP
    )
    is_level = unit.medians[0] <= median <= unit.medians[1] and high - low >= unit.min_spread
    if is_applied or not is_level or far_below > _MAX_FAR_BELOW_SHARE:
        middle = float(np.median(stored))
        raise InputError(
            f"{name} states a scale or an offset that its numbers can't have.",
            got=f"{statement.text}: stored {middle:.4g} becomes {median:.4g}, 98 % from {low:.4g} to {high:.4g}",
            expected=f"{unit.quantity}, in {unit.description}: {unit.expected}",
            hint=hint or _unstate(name, units),
        )


def sample_windows(dataset: Any) -> list[Any]:
    """Return up to nine windows spread over a file, enough to judge its pixels."""
    from rasterio.windows import Window

    height, width = min(_SAMPLE_PX, dataset.height), min(_SAMPLE_PX, dataset.width)
    rows = np.unique(np.linspace(0, dataset.height - height, 3).astype(int))
    columns = np.unique(np.linspace(0, dataset.width - width, 3).astype(int))
    return [Window(int(column), int(row), width, height) for row in rows for column in columns]


def _alpha_band(dataset: Any) -> int | None:
    from rasterio.enums import ColorInterp

    for index, kind, text in zip(dataset.indexes, dataset.colorinterp, dataset.descriptions, strict=True):
        # Programs mark the fourth band of a file as alpha by default, even where its description is B08.
        if kind is ColorInterp.alpha and (not text or "alpha" in text.lower()):
            return int(index)
    return None


def how_to_state_quantity(name: object, units: Units) -> str:
    """Return the step that makes a file's floats, which are the quantity itself, be read in its units."""
    unit = UNITS[units]
    return f"if they are {unit.quantity} itself, state the scale in each file: {_STATE % (unit.per_quantity, name)}"


def _unstate(name: object, units: Units | None) -> str:
    command = _UNSTATE.replace("FILE", str(name))
    right = "right" if units is None else UNITS[units].description
    return f"if its numbers are {right} as they stand, take the statement out: {command}; else state the right scale"


def _stated_nodata(stored: NDArray[Any], nodata: Sequence[float | None]) -> Flags:
    """Flags `[C, h, w]` of stated nodata; what is not finite is found anyway."""
    flags = np.zeros(stored.shape, np.bool_)
    for band, value, found in zip(stored, nodata, flags, strict=True):
        if value is not None and math.isfinite(value):
            is_whole = stored.dtype.kind in "iu" and value == int(value)
            with np.errstate(over="ignore"):  # a value that is too large for float32 becomes infinite
                np.equal(band, int(value) if is_whole else value, out=found)
    return flags
