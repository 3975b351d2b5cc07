"""Which linear unit Sentinel-1 pixels have, if they are not in dB: power or amplitude.

The sign distinguishes dB from linear numbers. Power and amplitude are both positive, and 10 * log10 of an amplitude is
half its dB: only the levels distinguish them. Both readings are compared with the backscatter of ground (level of VV,
distance of VH below it, spread), and a reading is called sure only where the other is much less likely. Bright sand in
amplitude and forest in power have the same numbers: there only the product's name or its documentation can decide.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import exp, hypot, inf, log
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fusmae.errors import InputError
from fusmae.units import MAX_NEGATIVE_SHARE, UNITS

S1Units = Literal["dB", "power", "amplitude"]
LinearUnits = Literal["power", "amplitude"]

FACTOR: dict[LinearUnits, float] = {"power": 10.0, "amplitude": 20.0}
"""Factor by which log10 of a linear number is multiplied to become dB."""

CROSSED_DB = 1.0
"""Difference in dB by which VH is above VV only over calm water, where both are noise."""

HOW_TO_TELL = (
    "the product's name or its documentation tells: in HyP3's names the letter after g or s is p for power, a for "
    "amplitude, d for dB (…_gpuned_…); Sigma0_VV of SNAP and Planetary Computer's RTC are power"
)

# A reading is called sure where the other one is less likely by at least this factor.
_SURE_ODDS = 20.0
_MAX_NAMED_ODDS = 1000.0
# Natural logarithm of a scene's spread (half the distance in dB between its 16th and 84th percentile; it comes from
# speckle and texture), and the standard deviation of this logarithm.
_SPREAD = (log(3.0), 0.5)
# A level that is more than this many standard deviations from every surface fits none.
_MAX_DISTANCE = 4.0
_SCALED_DB = 100.0


@dataclass(frozen=True)
class _Surface:
    """Backscatter of a kind of ground.

    Attributes:
        vv_db: level of VV in dB.
        vv_std_db: standard deviation of this level between scenes in dB.
        gap_db: VV minus VH in dB.
        gap_std_db: standard deviation of this difference in dB.
    """

    vv_db: float
    vv_std_db: float
    gap_db: float
    gap_std_db: float


_SURFACES = {
    "calm water": _Surface(-22.0, 3.0, 6.0, 2.5),  # VH is at the sensor's noise
    "rough water": _Surface(-12.0, 4.0, 12.0, 3.5),
    "sand": _Surface(-17.0, 3.5, 8.5, 2.5),
    "fields": _Surface(-11.0, 2.5, 7.0, 2.0),
    "forest": _Surface(-8.0, 2.0, 6.0, 1.2),
    "city": _Surface(-2.0, 3.0, 7.0, 2.0),
}


@dataclass(frozen=True)
class Levels:
    """Levels of linear pixels as 10 * log10: dB if they are power, half the dB if they are amplitude.

    Attributes:
        medians: median by band.
        spread: mean over the bands of half the distance between 16th and 84th percentile; None where unknown.
    """

    medians: Mapping[str, float]
    spread: float | None = None


@dataclass(frozen=True)
class UnitsEvidence:
    """Evidence of linear pixels about their units.

    Attributes:
        likelier: likelier of the two readings; None where neither gives levels that ground has.
        odds: factor by which this reading is likelier than the other.
        medians_db: median of each band in dB, by reading.
    """

    likelier: LinearUnits | None
    odds: float
    medians_db: Mapping[LinearUnits, Mapping[str, float]]

    @property
    def sure(self) -> LinearUnits | None:
        """The reading that is much likelier than the other; None where neither is."""
        return self.likelier if self.odds >= _SURE_ODDS else None

    @property
    def is_uncalibrated(self) -> bool:
        """Whether even the lower reading is above all ground: uncalibrated digital numbers, or a picture."""
        return max(self.medians_db["power"].values(), default=0.0) > UNITS["dB"].medians[1]

    @property
    def described(self) -> str:
        """Text such as `as power VV -5.5, VH -9.0 dB; as amplitude VV -11.0, VH -18.1 dB`."""
        return "; ".join(
            f"as {units} {', '.join(f'{name} {level:.1f}' for name, level in medians.items())} dB"
            for units, medians in self.medians_db.items()
        )

    @property
    def how_sure(self) -> str:
        """Description of how much likelier the likelier reading is."""
        if self.odds > _MAX_NAMED_ODDS:
            return f"more than {_MAX_NAMED_ODDS:,.0f} times as likely as the other"
        return f"{self.odds:.0f} times as likely as the other" if self.odds >= 2 else "about as likely as the other"


def require_linear(modality: str, negative: float, units: LinearUnits, *, of: str) -> None:
    """Refuse pixels that are called linear if too many of them are negative.

    Args:
        modality: name of the modality, for the error.
        negative: share of negative pixels, 0 to 1.
        units: linear units that the user stated.
        of: name of what the share was measured on, such as "band" or "tile", for the error.

    Raises:
        InputError: too many pixels are negative; the error names the option to leave out.
    """
    if negative > MAX_NEGATIVE_SHARE:
        raise InputError(
            f"The {modality} scene is no linear {units}: it has negative pixels.",
            got=f"{negative:.0%} of a {of}'s pixels are negative",
            expected=f"{units}, never negative",
            hint=f"leave out --units {modality}={units} if it is in dB; "
            "if these are nodata, say so: rio edit-info FILE --nodata VALUE",
        )


def measure_levels(bands: Mapping[str, NDArray[np.float32]]) -> Levels:
    """Measure the levels of linear pixels by band; pixels that are not positive are ignored."""
    found = {name: np.log10(pixels[pixels > 0]) * 10 for name, pixels in bands.items() if (pixels > 0).any()}
    return Levels({name: float(np.median(values)) for name, values in found.items()}, spread_of(found))


def spread_of(bands_db: Mapping[str, NDArray[np.float32]]) -> float | None:
    """Return the mean over bands of half the distance between 16th and 84th percentile; None without pixels."""
    spreads = [np.subtract(*np.percentile(values, [84, 16])) / 2 for values in bands_db.values() if values.size]
    return float(np.mean(spreads)) if spreads else None


def weigh(levels: Levels) -> UnitsEvidence:
    """Compare both readings of linear pixels with the backscatter of ground."""
    medians: dict[LinearUnits, dict[str, float]] = {
        units: {name: level * factor / 10 for name, level in levels.medians.items()} for units, factor in FACTOR.items()
    }
    fits = {units: _fit(medians[units], levels.spread and levels.spread * FACTOR[units] / 10) for units in FACTOR}
    first, second = sorted(fits, key=lambda units: -fits[units])
    if fits[first] == -inf:
        return UnitsEvidence(None, 1.0, medians)
    return UnitsEvidence(first, exp(min(fits[first] - fits[second], 700.0)), medians)


def conversion_to_decibels(evidence: UnitsEvidence) -> str:
    """Return advice on how to convert linear pixels to dB: one formula only where the evidence for it is strong."""
    if evidence.is_uncalibrated:
        return "calibrate it to sigma0 first: uncalibrated numbers can't be converted to dB"
    choice = "10 * log10(power) or 20 * log10(amplitude)"
    if evidence.sure:
        factor = FACTOR[evidence.sure]
        return (
            f"convert with {factor:g} * log10({evidence.sure}): of what ground scatters this is {evidence.how_sure}; "
            f"to be certain, {HOW_TO_TELL}"
        )
    return f"find out which it is, then convert with {choice}: these levels fit both; {HOW_TO_TELL}"


def doubt_of_decibels(levels_db: Levels) -> str:
    """Describe why dB may have been computed with the wrong factor; "" where there is no sign of it.

    Args:
        levels_db: levels of pixels in dB.
    """
    as_it_is = _fit(levels_db.medians, levels_db.spread)
    scales: dict[str, float] = {
        "half of what ground has, as if 10 * log10 was applied to amplitude": 2.0,
        "twice what ground has, as if 20 * log10 was applied to power": 0.5,
    }
    for text, scale in scales.items():
        scaled = {name: level * scale for name, level in levels_db.medians.items()}
        if _fit(scaled, levels_db.spread and levels_db.spread * scale) - as_it_is > log(_SURE_ODDS):
            return text
    return ""


def stated_units(texts: Iterable[str]) -> S1Units | None:
    """Return the units that names, descriptions and tags state; None where they state none, or several.

    Examples are `S1A_…_gpuned_…` (HyP3), `Sigma0_VV_db` (SNAP), `gamma0_power`, and `dB` as a unit.
    """
    found = {units for text in texts for units, pattern in _STATED.items() if pattern.search(text)}
    return found.pop() if len(found) == 1 else None


def is_scaled(median: float) -> bool:
    """Return whether a median can be that of dB times 100, as some archives store it."""
    return UNITS["dB"].medians[0] * _SCALED_DB < median < -_SCALED_DB


# HyP3: gamma0 or sigma0; power, amplitude or dB; unmasked or water masked; not filtered or filtered; entire or clipped;
# dead reckoning or matched. The first three letters stand alone in older names.
_HYP3 = r"(?<![A-Za-z0-9])[gs]{}[uw][nf](?:[ec][dm])?(?![A-Za-z0-9])"
_WORD = r"(?<![A-Za-z0-9])(?:{})(?![A-Za-z0-9])"
_STATED: dict[S1Units, re.Pattern[str]] = {
    "dB": re.compile(f"{_HYP3.format('d')}|{_WORD.format('db|decibels?')}", re.IGNORECASE),
    "power": re.compile(f"{_HYP3.format('p')}|{_WORD.format('power|linear_power|intensity')}", re.IGNORECASE),
    "amplitude": re.compile(f"{_HYP3.format('a')}|{_WORD.format('amplitude|amp')}", re.IGNORECASE),
}


def _fit(medians_db: Mapping[str, float], spread_db: float | None) -> float:
    """Return the logarithm of the likelihood of levels under the best fitting surface; -inf where they fit none."""
    vv, vh = (medians_db.get(name) for name in ("VV", "VH"))
    best = -inf
    for surface in _SURFACES.values():
        deviations: list[tuple[float, float]] = []
        if vv is not None:
            deviations.append((vv - surface.vv_db, surface.vv_std_db))
        if vv is not None and vh is not None:
            deviations.append((vv - vh - surface.gap_db, surface.gap_std_db))
        elif vh is not None:
            level = surface.vv_db - surface.gap_db
            deviations.append((vh - level, hypot(surface.vv_std_db, surface.gap_std_db)))
        if not deviations:  # the table has no other polarisations than VV and VH
            return 0.0
        if any(abs(deviation) > _MAX_DISTANCE * std for deviation, std in deviations):
            continue
        best = max(best, sum(-((deviation / std) ** 2) / 2 - log(std) for deviation, std in deviations))
    if spread_db:
        best -= ((log(spread_db) - _SPREAD[0]) / _SPREAD[1]) ** 2 / 2
    return best
