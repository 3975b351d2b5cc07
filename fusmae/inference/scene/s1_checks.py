"""Checks that a Sentinel-1 scene is in the units that its reader was given, and that VV and VH are not swapped."""

from collections.abc import Mapping

import numpy as np

from fusmae.errors import InputError
from fusmae.inference.scene.sample import OVERRIDE, Samples, refuse_strange
from fusmae.inference.scene.scene import Scene
from fusmae.rasters.s1_units import (
    CROSSED_DB,
    FACTOR,
    HOW_TO_TELL,
    MEDIAN_DB_RANGE,
    POSSIBLE_DB,
    Levels,
    LinearUnits,
    S1Units,
    UnitsEvidence,
    doubt_of_decibels,
    is_linear,
    is_scaled,
    measure_levels,
    require_linear,
    spread_of,
    weigh,
)

_OTHER: Mapping[LinearUnits, LinearUnits] = {"power": "amplitude", "amplitude": "power"}


def check_backscatter(modality: str, bands: Samples, scene: Scene) -> list[str]:
    """Refuse a scene in other units, with unstated nodata or with swapped polarisations.

    Args:
        modality: name of the modality, for errors.
        bands: sampled pixels `[N]` by band, as they are in the files.
        scene: the scene, with the units that its reader was given.

    Returns:
        Warnings about what the pixels alone can't show.

    Raises:
        InputError: the scene is refused; the error states what is wrong and which option corrects it.
    """
    units, stated = scene.reading.units, _stated(scene)
    if units == "dB":
        _refuse_linear(modality, bands, stated)
        decibels, warnings = bands, []
    else:
        warnings = _check_linear(modality, bands, units, stated)
        decibels = {name: np.log10(pixels[pixels > 0]) * np.float32(FACTOR[units]) for name, pixels in bands.items()}
    _check_decibels(modality, decibels, units)
    if units == "dB":
        medians = {name: float(np.median(pixels)) for name, pixels in decibels.items()}
        doubt = doubt_of_decibels(Levels(medians, spread_of(decibels)))
        warnings += [f"The {modality} scene's levels are {doubt}: {_listed(medians)} dB"] if doubt else []
    _refuse_crossed(modality, decibels, scene)
    return warnings


def _stated(scene: Scene) -> S1Units | None:
    found = {band.stated_units for band in scene.bands.values()} - {None}
    return found.pop() if len(found) == 1 else None


def _refuse_linear(modality: str, bands: Samples, stated: S1Units | None) -> None:
    linear = [name for name, pixels in bands.items() if is_linear(pixels)]
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
        expected="dB, mostly between -30 and 0",
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
    choice = f"--{modality}-units power or --{modality}-units amplitude"
    if stated not in (None, "dB") and evidence.sure not in (None, stated):
        return (
            f"find out which it is, then {choice}: the files say {stated}, but {evidence.sure} is "
            f"{evidence.how_sure}; {HOW_TO_TELL}"
        )
    if stated not in (None, "dB"):
        return f"--{modality}-units {stated} converts it: the files' names or tags say so"
    if evidence.sure:
        return (
            f"--{modality}-units {evidence.sure} converts it: of what ground scatters this is {evidence.how_sure}; "
            f"to be certain, {HOW_TO_TELL}"
        )
    return f"find out which it is, then {choice}: these levels fit both; {HOW_TO_TELL}"


def _check_linear(modality: str, bands: Samples, units: LinearUnits, stated: S1Units | None) -> list[str]:
    negative = max(float((pixels < 0).mean()) for pixels in bands.values())
    require_linear(modality, negative, units, of="band")
    evidence, other = weigh(measure_levels(bands)), _OTHER[units]
    if evidence.is_uncalibrated:  # `_check_decibels` refuses it for its level
        return []
    if evidence.sure == other and stated != units:
        raise InputError(
            f"The {modality} scene looks like {other}, not {units}.",
            got=evidence.described,
            expected=f"levels of ground as {units}; {other} is {evidence.how_sure}",
            hint=f"--{modality}-units {other} converts it; {HOW_TO_TELL}; {OVERRIDE}",
        )
    if stated == other and evidence.sure != units:
        raise InputError(
            f"The {modality} scene's files say {other}, not {units}.",
            got=evidence.described,
            expected=f"files in {units}",
            hint=f"--{modality}-units {other} converts it; {OVERRIDE}",
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


def _check_decibels(modality: str, bands: Samples, units: S1Units) -> None:
    all_pixels = np.concatenate(list(bands.values()))
    if not all_pixels.size:
        return
    median, (lowest, highest) = float(np.median(all_pixels)), POSSIBLE_DB
    # The check of the median below refuses dB times 100, and uncalibrated numbers after conversion: all their pixels
    # are beyond the possible range.
    if not is_scaled(median) and (units == "dB" or median < MEDIAN_DB_RANGE[1]):
        is_strange = (all_pixels < lowest) | (all_pixels > highest)
        refuse_strange(modality, all_pixels, is_strange, f"from {lowest:g} to {highest:g} dB")
    if MEDIAN_DB_RANGE[0] < median < MEDIAN_DB_RANGE[1]:
        return
    converted = "" if units == "dB" else f" after conversion from {units}"
    raise InputError(
        f"The {modality} scene is no backscatter in dB.",
        got=f"median {median:.4g} dB{converted}",
        expected=f"a median from {MEDIAN_DB_RANGE[0]:g} to {MEDIAN_DB_RANGE[1]:g} dB",
        hint=f"divide it by 100 first if it is dB times 100, as whole numbers store it; {OVERRIDE}"
        if is_scaled(median)
        else f"calibrate it to sigma0; check --{modality}-units; {OVERRIDE}",
    )


def _refuse_crossed(modality: str, bands: Samples, scene: Scene) -> None:
    if not {"VV", "VH"} <= bands.keys() or not (bands["VV"].size and bands["VH"].size):
        return
    above = float(np.median(bands["VH"]) - np.median(bands["VV"]))
    if above > CROSSED_DB:
        other = {"VV": "VH", "VH": "VV"}
        raise InputError(
            f"VV and VH of the {modality} scene look swapped.",
            got=f"VH is {above:.1f} dB above VV; in the order of the files the bands are {', '.join(scene.order)}",
            expected="VH below VV: ground and plants scatter little into the other polarisation",
            hint=f"--{modality}-bands {','.join(other.get(name, name) for name in scene.order)} names them the other "
            f"way round; {OVERRIDE}",
        )


def _listed(medians: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {level:.1f}" for name, level in medians.items())
