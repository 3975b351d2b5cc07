"""Checks of pixels: contrast, nodata, histograms, units, polarisation, place and size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, log10

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusmae.data.shards import LeftOut
from fusmae.examination.check import UPDATE, Check, counted, joined, keys_left_out, some
from fusmae.examination.observe import BandTotals, Observation
from fusmae.modalities import BandStatistics, Statistics, Units
from fusmae.rasters.s1_units import CROSSED_DB, LINEAR_SHARE, MEDIAN_DB_RANGE, Levels, conversion_to_decibels, weigh

MAX_NODATA_SHARE = 0.1
"""Maximum share of nodata in a pair: a missing corner does no harm, but with more a model learns where swaths end."""

CLIPPED_DN = 1.0
"""Value to which atmospheric correction clips numbers of 0 or less: over dark water whole bands may have it."""


@dataclass(frozen=True)
class PixelLimits:
    """Limits of how far a band may be from its published statistics.

    Attributes:
        mean_shift_stds: maximum difference of the means, in published standard deviations.
        std_ratio: maximum ratio of the standard deviations, either way.
    """

    mean_shift_stds: float
    std_ratio: float

    def __str__(self) -> str:
        mean = f"means within {self.mean_shift_stds:g} published standard deviations, "
        return f"{mean if self.mean_shift_stds < inf else ''}standard deviations within a factor of {self.std_ratio:g}"


POSSIBLE: dict[Units, PixelLimits] = {"DN": PixelLimits(inf, 10), "dB": PixelLimits(2, 4)}
"""Limits beyond which pixels have another unit or were normalised. The mean of digital numbers has no limit, because
snow and cloud move it by many standard deviations. Published standard deviations include cloud; clear pairs of one
scene have as little as 0.3 times the published one."""

TYPICAL: dict[Units, PixelLimits] = {"DN": PixelLimits(1, 3), "dB": PixelLimits(1, 3)}
"""Limits that real data of one scene or season may exceed, so that the user must judge."""

_MAX_CROSSED_SHARE = 0.2
"""Maximum share of pairs with VH above VV, which happens over calm water: in 1 of the sample's 60 pairs. The limit is
far below one half, so that a swap in only some of the pairs is found too."""

_MAX_8_BIT = 255


def check_constant(observed: Observation) -> Check:
    """Check that every band of every pair has contrast, except bands that were clipped over dark water."""
    is_constant = observed.measures.is_constant
    is_dn = np.array([band.units == "DN" for band in observed.bands], np.bool_)
    # A pair in which no band has contrast is not water: S1 would show waves or noise.
    has_contrast = ~is_constant.all(axis=1, keepdims=True)
    is_clipped = is_constant & is_dn & has_contrast & (observed.measures.median <= CLIPPED_DN)
    is_flat = is_constant & ~is_clipped
    keys = observed.keys_where(is_flat.any(axis=1))
    clipped = observed.keys_where(is_clipped.any(axis=1))
    sentences = [
        *([f"{counted(len(keys), 'pair')} with a band of one value: {_by_band(observed, is_flat)}"] if keys else []),
    ]
    if clipped:
        sentences.append(
            f"{counted(len(clipped), 'pair')} with a band clipped to {CLIPPED_DN:g} or less throughout, "
            f"as dark water is, which is no finding: {_by_band(observed, is_clipped)}"
        )
    return Check(
        name="constant",
        severity="blocks",
        what="No band of a pair has one value only, unless it was clipped as dark water is.",
        found=len(keys),
        got=joined(sentences, "every band has contrast"),
        expected="several values in each band of each pair",
        examples=some(keys),
        hint=f"look at these pairs; mend them, then {UPDATE}; or, if they were published so, agree to them in "
        "data.tolerated.constant",
    )


def check_nodata(observed: Observation, left_out: Sequence[LeftOut]) -> Check:
    """Check that no pair has NaN, infinite values or much nodata; 0 in one band where others have data is water."""
    share = observed.measures.nodata_share.max(axis=1, initial=0)
    dn = observed.columns(lambda band: band.units == "DN")
    ones = observed.keys_where(observed.measures.one_share[:, dn].max(axis=1, initial=0) > 0)
    empty = observed.keys_where(share > MAX_NODATA_SHARE)
    not_finite = keys_left_out(left_out, "nodata")
    sentences = [
        *([f"{counted(len(not_finite), 'pair')} left out: NaN or infinite"] if not_finite else []),
        *([f"{counted(len(empty), 'pair')} with more than {MAX_NODATA_SHARE:.0%} nodata"] if empty else []),
    ]
    edges = (
        f"; {counted(len(ones), 'pair')} with pixels that are 1 in all bands of S2, as along the edge of a swath, "
        f"which is no finding: {', '.join(some(ones))}"
        if ones
        else ""
    )
    return Check(
        name="nodata",
        severity="blocks",
        what="Pixels are finite and nearly all are data (0 in all bands of a modality is nodata).",
        found=len({*empty, *not_finite}),
        got=joined(sentences, f"at most {share.max(initial=0):.1%} nodata in a pair") + edges,
        expected=f"finite pixels, and at most {MAX_NODATA_SHARE:.0%} of 0 in all bands",
        examples=some([*empty, *not_finite]),
        hint=f"fill these pairs' nodata, then {UPDATE}; leave them out of the raw data, then {UPDATE}; or "
        "agree to them in data.tolerated.nodata",
    )


def check_histograms(observed: Observation, reference: Statistics) -> Check:
    """Check that no band is so far from its published statistics that its pixels must be of another kind."""
    return _against_reference(
        Check(
            name="histograms",
            severity="blocks",
            what="Each band has the published unit and was not normalised before.",
            found=0,
            got="",
            expected=f"digital numbers: {POSSIBLE['DN']}; dB: {POSSIBLE['dB']}; findings are bands",
            hint="look at the histograms below: pixels may be normalised already or of another unit; mend them, then "
            f"{UPDATE}",
        ),
        observed,
        reference,
        POSSIBLE,
    )


def check_typical(observed: Observation, reference: Statistics) -> Check:
    """Check that each band's mean and standard deviation are near the published ones."""
    return _against_reference(
        Check(
            name="typical",
            severity="warns",
            what="Each band's mean and standard deviation are near the published ones.",
            found=0,
            got="",
            expected=f"{TYPICAL['DN']}; findings are bands",
            hint="look at the histograms below: snow, cloud or a single scene may explain them; so may an offset, "
            "rescaled pixels, or bands in another order",
        ),
        observed,
        reference,
        TYPICAL,
    )


def check_units(observed: Observation, left_out: Sequence[LeftOut]) -> Check:
    """Check that S1 is in dB and not rounded to whole numbers, and that S2 is in 16-bit digital numbers."""
    measures = observed.measures
    db = observed.columns(lambda band: band.units == "dB")
    low, high = MEDIAN_DB_RANGE
    is_linear = (measures.nonnegative_share[:, db] > LINEAR_SHARE).any(axis=1)
    is_far = ((measures.median[:, db] < low) | (measures.median[:, db] > high)).any(axis=1) & ~is_linear
    # No sensor delivers a tile of whole dB by chance, so one such tile suffices.
    is_whole = (measures.is_whole[:, db] & ~measures.is_constant[:, db]).any(axis=1) & ~is_linear
    dn = observed.columns(lambda band: band.units == "DN")
    is_8_bit = bool(dn) and max(observed.totals[column].highest for column in dn) <= _MAX_8_BIT
    refused = keys_left_out(left_out, "units")
    kinds = {
        "left out: not in the stated units": refused,
        "whose S1 looks linear, not dB": observed.keys_where(is_linear),
        f"whose S1 has a median outside {low:g} to {high:g} dB": observed.keys_where(is_far),
        "whose S1 is cut to whole numbers": observed.keys_where(is_whole),
        "whose S2 looks like 8-bit pictures, not digital numbers": observed.keys if is_8_bit else [],
    }
    findings = {key for keys in kinds.values() for key in keys}
    is_mixed = bool(refused or is_linear.any() or is_far.any()) and not (is_linear | is_far).all()
    return Check(
        name="units",
        severity="blocks",
        what="S1 is in dB throughout, S2 in digital numbers (reflectance times 10,000).",
        found=len(findings),
        got=joined(
            [f"{counted(len(keys), 'pair')} {kind}" for kind, keys in kinds.items() if keys]
            + (["S1 is mixed: the other pairs are in dB"] if is_mixed else []),
            "S1 in dB, S2 in digital numbers",
        ),
        expected=f"S1 medians from {low:g} to {high:g} dB with decimals; S2 up to some thousands",
        examples=some(findings),
        hint=f"{_conversion(observed, is_linear)}read S1 as float32, don't rescale S2; then {UPDATE}",
    )


def _conversion(observed: Observation, is_linear: ArrayLike) -> str:
    """Describe how to convert linear pairs (flags `[N]`) to dB, judged by their levels."""
    rows = np.flatnonzero(is_linear)
    if not rows.size:
        return "convert linear S1 to dB (10 * log10 of power, 20 * log10 of amplitude); "
    medians = {
        observed.bands[column].name: float(np.median(observed.measures.median[rows, column]))
        for column in observed.columns(lambda band: band.units == "dB")
    }
    levels = {name: 10 * log10(median) for name, median in medians.items() if median > 0}
    return f"{conversion_to_decibels(weigh(Levels(levels)))}; "


def check_polarisation(observed: Observation) -> Check:
    """Check that VH is above VV in few pairs only."""
    what = "VH is below VV: vegetation and ground scatter little into the other polarisation."
    columns = {band.name: column for column, band in enumerate(observed.bands)}
    if not {"VV", "VH"} <= columns.keys() or not observed.keys:
        got, expected = "there are no VV and VH to compare", "VV and VH"
        return Check("polarisation", "blocks", what, 0, got, expected, is_skipped=True)
    mean = observed.measures.mean
    crossed = observed.keys_where(mean[:, columns["VH"]] - mean[:, columns["VV"]] > CROSSED_DB)
    share = len(crossed) / len(observed.keys)
    is_swapped = share > _MAX_CROSSED_SHARE
    return Check(
        name="polarisation",
        severity="blocks",
        what=what,
        found=len(crossed) if is_swapped else 0,
        got=f"VH is above VV by more than {CROSSED_DB:g} dB in {len(crossed):,} of "
        f"{counted(len(observed.keys), 'pair')} ({share:.0%})" + (": as if VV and VH were swapped" * is_swapped),
        expected=f"in at most {_MAX_CROSSED_SHARE:.0%} of the pairs; over calm water it happens",
        examples=some(crossed) if is_swapped else (),
        hint="name S1 bands by what they are, never by their order in a folder, "
        f"then {UPDATE}; if the pairs show calm water, agree to them in data.tolerated.polarisation",
    )


def check_georeference(left_out: Sequence[LeftOut], num_pairs: int) -> Check:
    """Check that all modalities of every pair show the same ground."""
    elsewhere = keys_left_out(left_out, "georeference")
    return Check(
        name="georeference",
        severity="blocks",
        what="Both sides of a pair have the same coordinate system and bounds.",
        found=len(elsewhere),
        got=f"{counted(len(elsewhere), 'pair')} left out: {_first_problem(left_out, elsewhere)}"
        if elsewhere
        else f"no pair of {num_pairs:,} was left out for its place",
        expected="equal bounds within a pair",
        examples=some(elsewhere),
        hint=f"bring the right files, then {UPDATE}; or agree to go on without these pairs in "
        "data.tolerated.georeference",
    )


def check_grid(left_out: Sequence[LeftOut], num_pairs: int) -> Check:
    """Check that every band and map of every pair has the size that the parameters state."""
    others = keys_left_out(left_out, "grid")
    return Check(
        name="grid",
        severity="blocks",
        what="Every band and map has as many pixels as `data.tile_m` and its resolution make.",
        found=len(others),
        got=f"{counted(len(others), 'pair')} left out: {_first_problem(left_out, others)}"
        if others
        else f"no pair of {num_pairs:,} was left out for its size",
        expected="each band of its stated size",
        examples=some(others),
        hint=f"cut the tiles anew, then {UPDATE}; where all have this size, set data.tile_m to their side in "
        "metres, then `dvc repro`; or agree to go on without these pairs in data.tolerated.grid",
    )


def _first_problem(left_out: Sequence[LeftOut], keys: Sequence[str]) -> str:
    return next(item.problem.partition("\n")[0] for item in left_out if item.key == keys[0])


def _by_band(observed: Observation, flags: NDArray[np.bool_]) -> str:
    numbers = zip(observed.bands, flags.sum(axis=0), strict=True)
    return ", ".join(f"{band.name} in {number:,}" for band, number in numbers if number)


def _against_reference(
    question: Check, observed: Observation, reference: Statistics, limits: Mapping[Units, PixelLimits]
) -> Check:
    """Compare each band with its published statistics, and return the check with the result."""
    compared = {
        band: (totals, published)
        for band, totals in zip(observed.bands, observed.totals, strict=True)
        if (published := reference.get(band.modality, {}).get(band.name))
    }
    strange = [
        band for band, (totals, published) in compared.items() if not _is_near(totals, published, limits[band.units])
    ]
    without = [band.name for band in observed.bands if band not in compared]
    unknown = f"; no reference for {', '.join(without)}" if compared and without else ""
    normal = f"{counted(len(compared), 'band')} within these limits" if compared else "no reference is known"
    return replace(
        question,
        found=len(strange),
        got=joined([_described(band.name, *compared[band]) for band in strange], normal) + unknown,
        examples=tuple(band.name for band in strange[:10]),
        is_skipped=not compared,
    )


def _is_near(totals: BandTotals, published: BandStatistics, limits: PixelLimits) -> bool:
    # The comparisons are written so that NaN does not count as near.
    is_mean_near = abs(totals.mean - published.mean) <= limits.mean_shift_stds * published.std
    return is_mean_near and published.std / limits.std_ratio <= totals.std <= published.std * limits.std_ratio


def _described(name: str, totals: BandTotals, published: BandStatistics) -> str:
    return (
        f"{name} has mean {totals.mean:,.1f} and standard deviation {totals.std:,.1f}, published are "
        f"{published.mean:,.1f} and {published.std:,.1f}"
    )
