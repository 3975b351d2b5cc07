"""Checks that a scene's pixels are in the model's units, by tiles from all over it, before hours are spent on it.

A data set is examined as a whole (`fusmae.examination`). A scene is judged alone and by fewer pixels, so that only
values that are far off are refused, and an option turns the check off.
"""

import sys
from collections.abc import Mapping, Sequence

import numpy as np

from fusmae.errors import InputError
from fusmae.inference.scene.bands import raster
from fusmae.inference.scene.reader import SceneReader
from fusmae.inference.scene.s2_checks import check_product
from fusmae.inference.scene.sample import OVERRIDE, Samples, pooled, sample_tiles
from fusmae.inference.scene.scene import Scene
from fusmae.modalities import Units
from fusmae.rasters.raster_file import how_to_state_quantity
from fusmae.rasters.s1_units import (
    CROSSED_DB,
    FACTOR,
    HOW_TO_TELL,
    LinearUnits,
    S1Units,
    contradiction,
    conversion_to_decibels,
    doubt_of_decibels,
    is_scaled,
    require_linear,
    weigh,
)
from fusmae.rasters.unit_check import Mistake, find_mistake, find_strange, judge
from fusmae.units import UNITS, Unit


def check_pixels(reader: SceneReader, scenes: Mapping[str, Scene]) -> list[str]:
    """Warnings about what the pixels alone can't show; a modality without any data in the sample is not judged.

    Raises:
        InputError: a scene's pixels have other units, unstated nodata, another offset, or swapped polarisations; the
            error names the option that corrects it.
    """
    units = {item.modality: item.unit for item in reader.inputs}
    named = {item.modality: item.units for item in reader.inputs}
    warnings = [
        f"--bands {modality} overrules what the files say: {'; '.join(scene.overruled)}"
        for modality, scene in scenes.items()
        if scene.overruled
    ]
    for modality, tiles in sample_tiles(reader, scenes).items():
        bands, unit, scene = pooled(tiles), units[modality], scenes[modality]
        if unit.quantity == "backscatter":
            warnings += _check_backscatter(modality, bands, scene, unit)
            continue
        if mistake := find_strange(bands, unit) or find_mistake(bands, unit):
            raise _refusal(modality, mistake, _how_to_state(bands, scene, named[modality]))
        if unit.quantity == "reflectance":
            warnings += check_product(modality, tiles, scene)
    return warnings


def print_warnings(warnings: Sequence[str]) -> None:
    """Print the warnings of `check_pixels` to standard error."""
    for warning in warnings:
        print(f"warning: {warning}.", file=sys.stderr)


def _check_backscatter(modality: str, bands: Samples, scene: Scene, unit: Unit) -> list[str]:
    """Refuse a scene in another unit than its reader was given, with unstated nodata or with swapped polarisations."""
    units, warnings = scene.units, list[str]()
    said = {band.stated_units for band in scene.bands.values()} - {None}
    stated = next((linear for linear in FACTOR if said == {linear}), None)
    if units == "dB":
        _refuse_linear(modality, bands, stated, unit)
        decibels = bands
    else:
        warnings = _check_linear(modality, bands, units, stated)
        positive = {name: pixels[pixels > 0] for name, pixels in bands.items() if (pixels > 0).any()}
        decibels = {name: np.log10(pixels) * np.float32(FACTOR[units]) for name, pixels in positive.items()}
    _refuse_no_backscatter(modality, decibels, units, unit)
    medians = {name: float(np.median(pixels)) for name, pixels in decibels.items()}
    if units == "dB" and (doubt := doubt_of_decibels(decibels)):
        levels = ", ".join(f"{name} {level:.1f}" for name, level in medians.items())
        warnings.append(f"The {modality} scene's levels are {doubt}: {levels} dB")
    if {"VV", "VH"} <= medians.keys() and (above := medians["VH"] - medians["VV"]) > CROSSED_DB:
        other = {"VV": "VH", "VH": "VV"}
        raise InputError(
            f"VV and VH of the {modality} scene look swapped.",
            got=f"VH is {above:.1f} dB above VV; in the order of the files the bands are {', '.join(scene.order)}",
            expected="VH below VV: ground and plants scatter little into the other polarisation",
            hint=f"--bands {modality}={','.join(other.get(name, name) for name in scene.order)} names them the other "
            f"way round; {OVERRIDE}",
        )
    return warnings


def _refuse_linear(modality: str, bands: Samples, stated: LinearUnits | None, unit: Unit) -> None:
    linear = [name for name, pixels in bands.items() if unit.lookalike(judge([pixels], unit))]
    if not linear:
        return
    if len(linear) < len(bands):
        raise InputError(
            f"The {modality} scene is mixed: {', '.join(linear)} is linear, the rest in dB.",
            got=", ".join(f"{name} with median {np.median(pixels):.4g}" for name, pixels in bands.items()),
            expected="all bands in the same units",
            hint=f"give files of one product, or convert {', '.join(linear)} to dB first; {HOW_TO_TELL}",
        )
    evidence = weigh(bands)
    guess = f"linear {stated or evidence.sure or 'power or amplitude'}"
    low, median, high = np.percentile(np.concatenate(list(bands.values())), [1, 50, 99])
    raise InputError(
        f"The {modality} scene looks like {'uncalibrated numbers' if evidence.is_uncalibrated else guess}, not dB.",
        got=f"median {median:.4g}, 98 % of the pixels from {low:.4g} to {high:.4g}; {evidence.described}",
        expected=unit.expected,
        hint=conversion_to_decibels(evidence, {units: f"--units {modality}={units}" for units in FACTOR}, stated),
    )


def _check_linear(modality: str, bands: Samples, units: LinearUnits, stated: LinearUnits | None) -> list[str]:
    negative = max(float((pixels < 0).mean()) for pixels in bands.values())
    require_linear(modality, negative, units, of="band")
    evidence = weigh(bands)
    if evidence.is_uncalibrated:  # `_refuse_no_backscatter` refuses it for its level
        return []
    if reason := contradiction(evidence, units, stated):
        (other,) = FACTOR.keys() - {units}
        raise InputError(
            f"The {modality} scene looks like {other}, not {units}.",
            got=evidence.described,
            expected=f"levels of ground as {units}; {reason}",
            hint=f"--units {modality}={other} converts it; {HOW_TO_TELL}; {OVERRIDE}",
        )
    if evidence.sure == units or (stated == units and evidence.sure is None):
        return []
    doubt, advice = "levels fit power and amplitude", f"; {HOW_TO_TELL}"
    if stated:
        doubt, advice = f"files say {stated}, but {evidence.sure} is {evidence.how_sure}", ""
    return [f"The {modality} scene's {doubt} ({evidence.described}): make sure that it is {units}{advice}"]


def _refuse_no_backscatter(modality: str, bands: Samples, units: S1Units, unit: Unit) -> None:
    """Refuse decibels of other levels than ground has, and unstated nodata."""
    if not bands:
        return
    median, high = float(np.median(np.concatenate(list(bands.values())))), unit.medians[1]
    # Of dB times 100, and of uncalibrated numbers after conversion, all pixels are strange: what follows refuses them.
    if not is_scaled(median) and (units == "dB" or median < high) and (strange := find_strange(bands, unit)):
        raise _refusal(modality, strange)
    if mistake := find_mistake(bands, unit):
        raise InputError(
            f"The {modality} scene is no backscatter in dB.",
            got=mistake.got + ("" if units == "dB" else f" dB after conversion from {units}"),
            expected=f"medians from {unit.medians[0]:g} to {high:g} dB",
            hint="divide it by 100 first if it is dB times 100, as whole numbers store it; " + OVERRIDE
            if is_scaled(median)
            else f"calibrate it to sigma0; check its --units; {OVERRIDE}",
        )


def _how_to_state(bands: Samples, scene: Scene, units: Units) -> str:
    """The step for floats that are the quantity itself and don't state it; "" for others."""
    kinds, unit = set(), UNITS[units]
    for path in scene.files:
        with raster(path) as dataset:
            kinds |= {(np.dtype(kind).kind, scale) for kind, scale in zip(dataset.dtypes, dataset.scales, strict=True)}
    is_quantity = unit.per_quantity != 1 and judge(bands.values(), unit) == unit.lookalikes[0].name
    if not (is_quantity and kinds == {("f", 1.0)}):
        return ""
    return f"; or, {how_to_state_quantity('FILE', units)}"


def _refusal(modality: str, mistake: Mistake, more: str = "") -> InputError:
    return InputError(
        f"The {modality} scene {mistake.what}.",
        got=mistake.got,
        expected=mistake.expected,
        hint=f"{mistake.hint}{more}; {OVERRIDE}",
    )
