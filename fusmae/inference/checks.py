"""Whether a scene's pixels are in the model's units, by tiles from all over it, before hours are spent on them.

A data set is examined as a whole (`fusmae.examination`); a scene is judged alone and by fewer pixels, so that only what
is far off is refused, and a person who knows better can say so.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from fusmae.errors import InputError
from fusmae.inference.grid import Grid
from fusmae.inference.reader import SceneReader
from fusmae.inference.scene import Scene

Samples = dict[str, NDArray[np.float32]]
# Tiles with data that are looked at, and how many are read to find them in a scene that is largely empty.
_ENOUGH, _AT_MOST = 12, 96
_LINEAR_SHARE = 0.95
_MEDIAN_DB_RANGE = (-40.0, 5.0)
_CROSSED_DB = 1.0
# Noise over calm water and the brightest ship lie within; what many pixels have beyond is no measurement.
_POSSIBLE_DB = (-80.0, 40.0)
_SATURATED_DN = 65535
_MAX_STRANGE_SHARE = 0.001
# Some pixels of a scene are nearly black in some band: water, shadow, needles. 1000 less what correction overshoots.
_FLOOR_DN, _FLOOR_PERCENT = 900.0, 0.5
_MAX_8_BIT = 255.0
_MAX_REFLECTANCE = 3.0
_OVERRIDE = "if the pixels are right all the same, --no-check"


def check_pixels(reader: SceneReader, scenes: Mapping[str, Scene]) -> None:
    """Refuse scenes whose pixels have other units, unstated nodata, baseline 04.00's offset, or swapped polarisations.

    A modality without any data in the sample is not judged here.

    Raises:
        InputError: names what is wrong and the option that mends it.
    """
    units = {item.modality: item.units for item in reader.inputs}
    for modality, bands in _sample(reader).items():
        if bands and units[modality] == "dB":
            _check_decibels(modality, bands, scenes[modality])
        elif bands:
            _check_digital_numbers(modality, bands, scenes[modality])


def _sample(reader: SceneReader) -> dict[str, Samples]:
    """Pixels with data by modality and band, from tiles all over the scene."""
    kept: dict[str, dict[str, list[NDArray[np.float32]]]] = {item.modality: {} for item in reader.inputs}
    counts: dict[str, int] = defaultdict(int)
    for top_m, left_m in _places(reader.grid):
        wanting = [item for item in reader.inputs if counts[item.modality] < _ENOUGH]
        for item in wanting:
            pixels = reader.read(item, top_m, left_m, reader.grid.tile_m, reader.grid.tile_m)
            has_data = np.isfinite(pixels[0])
            if not has_data.any():
                continue
            for name, band in zip(item.bands, pixels, strict=True):
                kept[item.modality].setdefault(name, []).append(band[has_data])
        for modality in {item.modality for item in wanting}:
            counts[modality] = max((len(parts) for parts in kept[modality].values()), default=0)
    return {
        modality: {name: np.concatenate(parts) for name, parts in bands.items()} for modality, bands in kept.items()
    }


def _places(grid: Grid) -> Iterator[tuple[int, int]]:
    """Corners of tiles, each far from those before it."""
    tops, lefts = grid.tile_tops_m, grid.tile_lefts_m
    # Steps by the plastic number's powers fill a square evenly however many there are.
    steps = np.arange(min(_AT_MOST, len(tops) * len(lefts)))[:, None] * [0.7548776662466927, 0.5698402909980532]
    rows, columns = ((0.5 + steps) % 1 * [len(tops), len(lefts)]).astype(int).T
    yield from dict.fromkeys((tops[row], lefts[column]) for row, column in zip(rows, columns, strict=True))


def _check_decibels(modality: str, bands: Samples, scene: Scene) -> None:
    all_pixels = np.concatenate(list(bands.values()))
    low, median, high = np.percentile(all_pixels, [1, 50, 99])
    if scene.reading.units == "dB" and (all_pixels > 0).mean() > _LINEAR_SHARE:
        raise InputError(
            f"The {modality} scene looks like linear power, not dB.",
            got=f"median {median:.4g}, 98 % of the pixels from {low:.4g} to {high:.4g}",
            expected="dB, mostly between -30 and 0",
            hint=f"--{modality}-units power converts it; uncalibrated numbers (hundreds) must be calibrated to sigma0 "
            "first",
        )
    lowest, highest = _POSSIBLE_DB
    is_strange = (all_pixels < lowest) | (all_pixels > highest)
    _refuse_strange(modality, all_pixels, is_strange, f"from {lowest:g} to {highest:g} dB")
    if not _MEDIAN_DB_RANGE[0] < median < _MEDIAN_DB_RANGE[1]:
        raise InputError(
            f"The {modality} scene is no backscatter in dB.",
            got=f"median {median:.4g} dB" + (" after conversion from power" * (scene.reading.units == "power")),
            expected=f"a median from {_MEDIAN_DB_RANGE[0]:g} to {_MEDIAN_DB_RANGE[1]:g} dB",
            hint=f"calibrate it to sigma0; check --{modality}-units; {_OVERRIDE}",
        )
    if {"VV", "VH"} <= bands.keys():
        above = float(bands["VH"].mean() - bands["VV"].mean())
        if above > _CROSSED_DB:
            raise InputError(
                f"VV and VH of the {modality} scene look swapped.",
                got=f"VH is {above:.1f} dB above VV",
                expected="VH below VV: ground and plants scatter little into the other polarisation",
                hint=f"--{modality}-bands VH,VV names bands in the order of the files; {_OVERRIDE}",
            )


def _refuse_strange(modality: str, pixels: NDArray[np.float32], is_strange: NDArray[np.bool_], expected: str) -> None:
    if is_strange.mean() <= _MAX_STRANGE_SHARE:
        return
    values, counts = np.unique(pixels[is_strange], return_counts=True)
    raise InputError(
        f"The {modality} scene has pixels that are no measurements.",
        got=f"{is_strange.mean():.2%} of them, most often {float(values[counts.argmax()]):.17g}",
        expected=f"{expected}, but for {_MAX_STRANGE_SHARE:.1%} of the pixels",
        hint=f"if they are nodata, let the files say so: rio edit-info FILE --nodata VALUE; {_OVERRIDE}",
    )


def _check_digital_numbers(modality: str, bands: Samples, scene: Scene) -> None:
    numbers = np.concatenate(list(bands.values()))
    # The reader took the offset off, and left nothing below 0.
    is_strange = (numbers < 0) | (numbers == _SATURATED_DN - (scene.reading.offset or 0))
    _refuse_strange(modality, numbers, is_strange, f"digital numbers from 0 to {_SATURATED_DN - 1}")
    highest = max(float(pixels.max()) for pixels in bands.values())
    name, floor = min(
        ((name, float(np.percentile(pixels, _FLOOR_PERCENT))) for name, pixels in bands.items()),
        key=lambda found: found[1],
    )
    if scene.reading.offset is None and highest <= _MAX_8_BIT:
        is_reflectance = highest <= _MAX_REFLECTANCE
        raise InputError(
            f"The {modality} scene looks like {'reflectance from 0 to 1' if is_reflectance else 'an 8-bit picture'}, "
            "not digital numbers.",
            got=f"at most {highest:.4g}",
            expected="reflectance times 10,000: up to some thousands",
            hint="multiply by 10,000 first: `rio calc '(* 10000 (read 1))' … --dtype uint16`"
            if is_reflectance
            else f"bring the product's own bands, not its pictures; {_OVERRIDE}",
        )
    if scene.reading.offset is None and floor >= _FLOOR_DN:
        raise InputError(
            f"The {modality} scene holds the offset of 1000 that processing baselines from 04.00 on add.",
            got=f"darkest band {name}: {100 - _FLOOR_PERCENT:g} % of its pixels are above {floor:.0f}",
            expected="some pixels nearly black in some band",
            hint=f"--{modality}-offset 1000 takes it off; --{modality}-offset 0 if there is none and the scene is all "
            "snow or cloud",
        )
    if scene.reading.offset and floor <= 0:
        raise InputError(
            f"The {modality} scene does not hold an offset of {scene.reading.offset}.",
            got=f"band {name}: {_FLOOR_PERCENT:g} % of its pixels or more are negative without it",
            expected=f"pixels of {scene.reading.offset} and more",
            hint=f"leave out --{modality}-offset; if these are nodata, say so: rio edit-info FILE --nodata VALUE",
        )
