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
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusmae.errors import InputError
from fusmae.units import MAX_NEGATIVE_SHARE, UNITS

S1Units = Literal["dB", "power", "amplitude"]
LinearUnits = Literal["power", "amplitude"]

FACTOR: dict[LinearUnits, float] = {"power": 10.0, "amplitude": 20.0}
"""Factor by which log10 of a linear number is multiplied to become dB."""

_FORMULAS: Mapping[LinearUnits, str] = {"power": "10 * log10(power)", "amplitude": "20 * log10(amplitude)"}

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


class _Surface(NamedTuple):
    """Backscatter of a kind of ground in dB: VV, VV minus VH, and the standard deviations of both between scenes."""

    vv_db: float
    vv_std_db: float
    gap_db: float
    gap_std_db: float


_SURFACES = (
    _Surface(-22.0, 3.0, 6.0, 2.5),  # calm water, whose VH is at the sensor's noise
    _Surface(-12.0, 4.0, 12.0, 3.5),  # rough water
    _Surface(-17.0, 3.5, 8.5, 2.5),  # sand
    _Surface(-11.0, 2.5, 7.0, 2.0),  # fields
    _Surface(-8.0, 2.0, 6.0, 1.2),  # forest
    _Surface(-2.0, 3.0, 7.0, 2.0),  # city
)


@dataclass(frozen=True)
class UnitsEvidence:
    """Evidence of linear pixels about their units."""

    likelier: LinearUnits | None  # likelier of the two readings; None where neither gives levels that ground has
    odds: float  # factor by which this reading is likelier than the other
    medians_db: Mapping[LinearUnits, Mapping[str, float]]  # median of each band in dB, by reading

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
    """Raise InputError for pixels that are stated linear if too large a share of a tile or band (`of`) is negative."""
    if negative > MAX_NEGATIVE_SHARE:
        raise InputError(
            f"The {modality} scene is no linear {units}: it has negative pixels.",
            got=f"{negative:.0%} of a {of}'s pixels are negative",
            expected=f"{units}, never negative",
            hint=f"leave out --units {modality}={units} if it is in dB; "
            "if these are nodata, say so: rio edit-info FILE --nodata VALUE",
        )


def to_decibels(pixels: NDArray[np.float32], units: LinearUnits) -> NDArray[np.float32]:
    """Convert linear pixels `[C, h, w]` to dB, in place; where one band is not positive, all become NaN."""
    # 0 in one band is a measurement of no power, which has no logarithm: the pixel has no data.
    np.copyto(pixels, np.nan, where=(pixels <= 0).any(axis=0))
    np.log10(pixels, out=pixels)
    pixels *= FACTOR[units]
    return pixels


def weigh(bands: Mapping[str, NDArray[np.float32]]) -> UnitsEvidence:
    """Compare both readings of linear pixels, of which those that are not positive say nothing, with ground."""
    levels = {name: np.log10(pixels[pixels > 0]) * 10 for name, pixels in bands.items() if (pixels > 0).any()}
    medians, spread = _measured(levels)
    fits = {units: _fit(medians, spread, factor / 10) for units, factor in FACTOR.items()}
    first, second = sorted(fits, key=lambda units: -fits[units])
    medians_db: dict[LinearUnits, dict[str, float]] = {
        units: {name: level * factor / 10 for name, level in medians.items()} for units, factor in FACTOR.items()
    }
    if fits[first] == -inf:
        return UnitsEvidence(None, 1.0, medians_db)
    return UnitsEvidence(first, exp(min(fits[first] - fits[second], 700.0)), medians_db)


def contradiction(evidence: UnitsEvidence, units: LinearUnits, stated: LinearUnits | None = None) -> str:
    """Return why linear pixels have the other unit than `units`; "" where nothing speaks for the other alone.

    `stated` are the units that the files state. Of uncalibrated numbers it says nothing: they have neither unit.
    """
    (other,) = FACTOR.keys() - {units}
    signs = (evidence.sure, stated)
    if evidence.is_uncalibrated or other not in signs or units in signs:
        return ""
    return f"{other} is {evidence.how_sure}" if evidence.sure else f"the files say {other}"


def conversion_to_decibels(
    evidence: UnitsEvidence, ways: Mapping[LinearUnits, str] = _FORMULAS, stated: LinearUnits | None = None
) -> str:
    """Return advice on how linear pixels become dB; it names one way only if that can't silently be the wrong one.

    The ways are a formula or option for power and one for amplitude; `stated` are the units that the files state.
    """
    if evidence.is_uncalibrated:
        return (
            "calibrate it to sigma0 first (SNAP: Radiometric, Calibrate): uncalibrated numbers can't be converted to "
            "dB; if they are dB stretched to a picture, bring the product itself"
        )
    choice = f"find out which it is, then convert with {' or '.join(ways.values())}"
    if stated:
        if evidence.sure in (None, stated):
            return f"convert with {ways[stated]}, as the files' names or tags say"
        return f"{choice}: the files say {stated}, but {evidence.sure} is {evidence.how_sure}; {HOW_TO_TELL}"
    if evidence.sure:
        return (
            f"convert with {ways[evidence.sure]}, since of what ground scatters this is {evidence.how_sure}; to be "
            f"certain, {HOW_TO_TELL}"
        )
    return f"{choice}: these levels fit both; {HOW_TO_TELL}"


def doubt_of_decibels(bands_db: Mapping[str, NDArray[np.float32]]) -> str:
    """Describe why pixels in dB may have been computed with the wrong factor; "" where there is no sign of it."""
    medians, spread = _measured(bands_db)
    as_it_is = _fit(medians, spread, 1.0)
    for scale, text in (
        (2.0, "half of what ground has, as if 10 * log10 was applied to amplitude"),
        (0.5, "twice what ground has, as if 20 * log10 was applied to power"),
    ):
        if _fit(medians, spread, scale) - as_it_is > log(_SURE_ODDS):
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


def _measured(bands_db: Mapping[str, NDArray[np.float32]]) -> tuple[dict[str, float], float]:
    """The median by band, and the mean over bands of half the distance between 16th and 84th percentile."""
    spreads = [np.subtract(*np.percentile(values, [84, 16])) / 2 for values in bands_db.values()]
    medians = {name: float(np.median(values)) for name, values in bands_db.items()}
    return medians, float(np.mean(spreads)) if spreads else 0.0


def _fit(medians_db: Mapping[str, float], spread_db: float, scale: float) -> float:
    """The logarithm of the likelihood of scaled levels under the best fitting surface; -inf where they fit none."""
    vv, vh = (medians_db[name] * scale if name in medians_db else None for name in ("VV", "VH"))
    if vv is None and vh is None:  # the table has no other polarisations
        return 0.0
    best = -inf
    for surface in _SURFACES:
        deviations: list[tuple[float, float]] = []
        if vv is not None:
            deviations.append((vv - surface.vv_db, surface.vv_std_db))
        if vv is not None and vh is not None:
            deviations.append((vv - vh - surface.gap_db, surface.gap_std_db))
        elif vh is not None:
            level = surface.vv_db - surface.gap_db
            deviations.append((vh - level, hypot(surface.vv_std_db, surface.gap_std_db)))
        if all(abs(deviation) <= _MAX_DISTANCE * std for deviation, std in deviations):
            best = max(best, sum(-((deviation / std) ** 2) / 2 - log(std) for deviation, std in deviations))
    if spread_db:
        best -= ((log(spread_db * scale) - _SPREAD[0]) / _SPREAD[1]) ** 2 / 2
    return best
