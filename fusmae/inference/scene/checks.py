"""Checks that a scene's pixels are in the model's units, by tiles from all over it, before hours are spent on it.

A data set is examined as a whole (`fusmae.examination`). A scene is judged alone and by fewer pixels, so that only
values that are far off are refused, and an option turns the check off.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from fusmae.errors import InputError
from fusmae.inference.scene.reader import SceneReader
from fusmae.inference.scene.s2_checks import check_product
from fusmae.inference.scene.sample import OVERRIDE, Samples, pooled, sample_tiles
from fusmae.inference.scene.scene import Scene
from fusmae.rasters.s1_units import (
    CROSSED_DB,
    FACTOR,
    HOW_TO_TELL,
    Levels,
    LinearUnits,
    S1Units,
    UnitsEvidence,
    doubt_of_decibels,
    is_scaled,
    measure_levels,
    require_linear,
    spread_of,
    weigh,
)
from fusmae.rasters.unit_check import Mistake, find_mistake, find_strange, judge
from fusmae.units import Unit

_OTHER: Mapping[LinearUnits, LinearUnits] = {"power": "amplitude", "amplitude": "power"}


def check_pixels(reader: SceneReader, scenes: Mapping[str, Scene]) -> list[str]:
    """Refuse scenes whose pixels have other units, unstated nodata, another offset, or swapped polarisations.

    A modality without any data in the sample is not judged here.

    Returns:
        Warnings about what the pixels alone can't show, in sentences for people.

    Raises:
        InputError: a scene is refused; the error states what is wrong and which option corrects it.
    """
    units = {item.modality: item.unit for item in reader.inputs}
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
        _refuse_strange(modality, bands, unit)
        if mistake := find_mistake(bands, unit):
            raise _refusal(modality, mistake)
        if unit.quantity == "reflectance":
            warnings += check_product(modality, tiles, scene)
    return warnings


def print_warnings(warnings: Sequence[str]) -> None:
    """Print the warnings of `check_pixels` to standard error."""
    from rich.console import Console

    console = Console(stderr=True)
    for warning in warnings:
        console.print(f"warning: {warning}.", markup=False, highlight=False, soft_wrap=True)


def _check_backscatter(modality: str, bands: Samples, scene: Scene, unit: Unit) -> list[str]:
    """Refuse a scene in another unit than its reader was given, with unstated nodata or with swapped polarisations."""
    units, stated = scene.reading.units, _stated(scene)
    if units == "dB":
        _refuse_linear(modality, bands, stated, unit)
        decibels, warnings = bands, []
    else:
        warnings = _check_linear(modality, bands, units, stated)
        positive = {name: pixels[pixels > 0] for name, pixels in bands.items() if (pixels > 0).any()}
        decibels = {name: np.log10(pixels) * np.float32(FACTOR[units]) for name, pixels in positive.items()}
    _refuse_no_backscatter(modality, decibels, units, unit)
    if units == "dB":
        medians = {name: float(np.median(pixels)) for name, pixels in decibels.items()}
        doubt = doubt_of_decibels(Levels(medians, spread_of(decibels)))
        warnings += [f"The {modality} scene's levels are {doubt}: {_listed(medians)} dB"] if doubt else []
    _refuse_crossed(modality, decibels, scene)
    return warnings


def _stated(scene: Scene) -> S1Units | None:
    found = {band.stated_units for band in scene.bands.values()} - {None}
    return found.pop() if len(found) == 1 else None


def _refuse_linear(modality: str, bands: Samples, stated: S1Units | None, unit: Unit) -> None:
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
    evidence = weigh(measure_levels(bands))
    all_pixels = np.concatenate(list(bands.values()))
    low, median, high = np.percentile(all_pixels, [1, 50, 99])
    raise InputError(
        f"The {modality} scene looks like {_guess(evidence, stated)}, not dB.",
        got=f"median {median:.4g}, 98 % of the pixels from {low:.4g} to {high:.4g}; {evidence.described}",
        expected=unit.expected,
        hint=_conversion(modality, evidence, stated),
    )


def _guess(evidence: UnitsEvidence, stated: S1Units | None) -> str:
    if evidence.is_uncalibrated:
        return "uncalibrated numbers"
    guess = evidence.sure if stated in (None, "dB") else stated
    return f"linear {guess or 'power or amplitude'}"


def _conversion(modality: str, evidence: UnitsEvidence, stated: S1Units | None) -> str:
    """Advice for a linear scene; it names an option only if that can't silently be the wrong one."""
    if evidence.is_uncalibrated:
        return (
            "calibrate it to sigma0 first (SNAP: Radiometric, Calibrate): uncalibrated numbers can't be converted; "
            "if they are dB stretched to a picture, bring the product itself"
        )
    choice = f"--units {modality}=power or --units {modality}=amplitude"
    if stated not in (None, "dB") and evidence.sure not in (None, stated):
        return (
            f"find out which it is, then {choice}: the files say {stated}, but {evidence.sure} is "
            f"{evidence.how_sure}; {HOW_TO_TELL}"
        )
    if stated not in (None, "dB"):
        return f"--units {modality}={stated} converts it: the files' names or tags say so"
    if evidence.sure:
        return (
            f"--units {modality}={evidence.sure} converts it: of what ground scatters this is {evidence.how_sure}; "
            f"to be certain, {HOW_TO_TELL}"
        )
    return f"find out which it is, then {choice}: these levels fit both; {HOW_TO_TELL}"


def _check_linear(modality: str, bands: Samples, units: LinearUnits, stated: S1Units | None) -> list[str]:
    negative = max(float((pixels < 0).mean()) for pixels in bands.values())
    require_linear(modality, negative, units, of="band")
    evidence, other = weigh(measure_levels(bands)), _OTHER[units]
    if evidence.is_uncalibrated:  # `_refuse_no_backscatter` refuses it for its level
        return []
    if evidence.sure == other and stated != units:
        raise InputError(
            f"The {modality} scene looks like {other}, not {units}.",
            got=evidence.described,
            expected=f"levels of ground as {units}; {other} is {evidence.how_sure}",
            hint=f"--units {modality}={other} converts it; {HOW_TO_TELL}; {OVERRIDE}",
        )
    if stated == other and evidence.sure != units:
        raise InputError(
            f"The {modality} scene's files say {other}, not {units}.",
            got=evidence.described,
            expected=f"files in {units}",
            hint=f"--units {modality}={other} converts it; {OVERRIDE}",
        )
    if evidence.sure == units or (stated == units and evidence.sure is None):
        return []
    if stated is not None and stated != "dB":
        return [
            f"The {modality} scene's files say {stated}, but {evidence.sure} is {evidence.how_sure} "
            f"({evidence.described}): make sure that it is {units}"
        ]
    return [
        f"The {modality} scene's levels fit power and amplitude ({evidence.described}): make sure that it is {units}; "
        f"{HOW_TO_TELL}"
    ]


def _refuse_no_backscatter(modality: str, bands: Samples, units: S1Units, unit: Unit) -> None:
    """Refuse decibels of other levels than ground has, and unstated nodata."""
    if not bands:
        return
    median, high = float(np.median(np.concatenate(list(bands.values())))), unit.medians[1]
    # What follows refuses dB times 100, and uncalibrated numbers after conversion: all their pixels are implausible.
    if not is_scaled(median) and (units == "dB" or median < high):
        _refuse_strange(modality, bands, unit)
    if (mistake := find_mistake(bands, unit)) is None:
        return
    converted = "" if units == "dB" else f" dB after conversion from {units}"
    raise InputError(
        f"The {modality} scene is no backscatter in dB.",
        got=f"{mistake.got}{converted}",
        expected=f"medians from {unit.medians[0]:g} to {high:g} dB",
        hint=f"divide it by 100 first if it is dB times 100, as whole numbers store it; {OVERRIDE}"
        if is_scaled(median)
        else f"calibrate it to sigma0; check its --units; {OVERRIDE}",
    )


def _refuse_crossed(modality: str, bands: Samples, scene: Scene) -> None:
    if not {"VV", "VH"} <= bands.keys():
        return
    above = float(np.median(bands["VH"]) - np.median(bands["VV"]))
    if above > CROSSED_DB:
        other = {"VV": "VH", "VH": "VV"}
        raise InputError(
            f"VV and VH of the {modality} scene look swapped.",
            got=f"VH is {above:.1f} dB above VV; in the order of the files the bands are {', '.join(scene.order)}",
            expected="VH below VV: ground and plants scatter little into the other polarisation",
            hint=f"--bands {modality}={','.join(other.get(name, name) for name in scene.order)} names them the other "
            f"way round; {OVERRIDE}",
        )


def _refuse_strange(modality: str, bands: Samples, unit: Unit) -> None:
    if strange := find_strange(bands, unit):
        raise _refusal(modality, strange)


def _refusal(modality: str, mistake: Mistake) -> InputError:
    return InputError(
        f"The {modality} scene {mistake.what}.",
        got=mistake.got,
        expected=mistake.expected,
        hint=f"{mistake.hint}; {OVERRIDE}",
    )


def _listed(medians: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {level:.1f}" for name, level in medians.items())
