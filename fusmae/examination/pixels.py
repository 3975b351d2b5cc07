"""Checks of pixels: contrast, nodata, histograms, units, polarisation, place and size."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf

import numpy as np
from numpy.typing import NDArray

from fusmae.data.shards import LeftOut
from fusmae.examination.check import UPDATE, Check, counted, joined, keys_left_out, some
from fusmae.examination.observe import BandTotals, Observation
from fusmae.modalities import BandStatistics, Statistics
from fusmae.rasters.s1_units import CROSSED_DB
from fusmae.units import UNITS, Unit

MAX_NODATA_SHARE = 0.1
"""Maximum share of nodata in a pair: a missing corner does no harm, but with more a model learns where swaths end."""

_TYPICAL = (1.0, 3.0)
"""Maximum difference of a band's mean from the published one in published standard deviations, and maximum ratio of
the standard deviations. Real data of one scene or season may exceed them, so that the user must judge."""

_MAX_CROSSED_SHARE = 0.2
"""Maximum share of pairs with VH above VV, which happens over calm water: in 1 of the sample's 60 pairs. The limit is
far below one half, so that a swap in only some of the pairs is found too."""


def check_constant(observed: Observation) -> Check:
    """Check that every band of every pair has contrast, except bands that were clipped over dark water."""
    is_constant = observed.measures.is_constant
    # Over dark water whole bands may be clipped.
    clipped_to = np.array([-inf if band.unit.clipped_to is None else band.unit.clipped_to for band in observed.bands])
    # A pair in which no band has contrast is not water: S1 would show waves or noise.
    has_contrast = ~is_constant.all(axis=1, keepdims=True)
    is_clipped = is_constant & has_contrast & (observed.measures.mean <= clipped_to)
    is_flat = is_constant & ~is_clipped
    keys = observed.keys_where(is_flat.any(axis=1))
    clipped = observed.keys_where(is_clipped.any(axis=1))
    sentences = [
        *([f"{counted(len(keys), 'pair')} with a band of one value: {_by_band(observed, is_flat)}"] if keys else []),
    ]
    if clipped:
        sentences.append(
            f"{counted(len(clipped), 'pair')} with a band clipped to {clipped_to.max():g} or less throughout, "
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
    is_edge = observed.measures.clipped_share > 0
    edge = observed.keys_where(is_edge.any(axis=1))
    modalities = dict.fromkeys(
        observed.bands[column].modality.upper() for column in np.flatnonzero(is_edge.any(axis=0))
    )
    empty = observed.keys_where(share > MAX_NODATA_SHARE)
    not_finite = keys_left_out(left_out, "nodata")
    sentences = [
        *([f"{counted(len(not_finite), 'pair')} left out: NaN or infinite"] if not_finite else []),
        *([f"{counted(len(empty), 'pair')} with more than {MAX_NODATA_SHARE:.0%} nodata"] if empty else []),
    ]
    edges = (
        f"; {counted(len(edge), 'pair')} with pixels that are 1 in all bands of {', '.join(modalities)}, as along the "
        f"edge of a swath, which is no finding: {', '.join(some(edge))}"
        if edge
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
    units = [unit for name, unit in UNITS.items() if any(band.units == name for band in observed.bands)]
    limits = "; ".join(f"{unit.noun}: {_described_limits(*_possible(unit))}" for unit in units)
    return _against_reference(
        Check(
            name="histograms",
            severity="blocks",
            what="Each band has the published unit and was not normalised before.",
            found=0,
            got="",
            expected=f"{limits}; findings are bands",
            hint="look at the histograms below: pixels may be normalised already or of another unit; mend them, then "
            f"{UPDATE}",
        ),
        observed,
        reference,
        _possible,
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
            expected=f"{_described_limits(*_TYPICAL)}; findings are bands",
            hint="look at the histograms below: snow, cloud or a single scene may explain them; so may an offset, "
            "rescaled pixels, or bands in another order",
        ),
        observed,
        reference,
        lambda _: _TYPICAL,
    )


def check_units(observed: Observation, left_out: Sequence[LeftOut]) -> Check:
    """Check that all pixels have the units of their modality.

    Tiles in another unit are in no shard. Added here is what shards take: tiles that were cut to whole numbers, and
    units that only a whole data set reveals.
    """
    units = {band.modality.upper(): band.unit for band in observed.bands}
    refused = keys_left_out(left_out, "units")
    kinds = {f"left out: {_first_problem(left_out, refused)}": refused} if refused else {}
    for name, unit in units.items():
        columns = [column for column, band in enumerate(observed.bands) if band.modality.upper() == name]
        if unit.is_never_whole:
            # No sensor delivers such a tile by chance, so one suffices.
            is_whole = observed.measures.is_whole[:, columns] & ~observed.measures.is_constant[:, columns]
            kinds[f"whose {name} is cut to whole numbers"] = observed.keys_where(is_whole.any(axis=1))
        highest = max(observed.totals[column].highest for column in columns)
        for other in unit.lookalikes:
            if not other.is_certain and highest <= other.highest:
                kinds[f"whose {name} looks like {other.name}, not {unit.noun}"] = observed.keys
    findings = {key for keys in kinds.values() for key in keys}
    first, *others = [f"{name} in {unit.description}" for name, unit in units.items()] or ["A modality in its units"]
    cares = [unit.care.format(name) for name, unit in units.items() if unit.care]
    return Check(
        name="units",
        severity="blocks",
        what=f"{', '.join([f'{first} throughout'.replace(' in ', ' is in ', 1), *others])}.",
        found=len(findings),
        got=joined(
            [f"{counted(len(keys), 'pair')} {kind}" for kind, keys in kinds.items() if keys]
            + (["the others are in the stated units"] if refused and observed.keys else []),
            ", ".join(f"{name} in {unit.noun}" for name, unit in units.items()),
        ),
        expected="; ".join(f"{name} {unit.expected}" for name, unit in units.items()),
        examples=some(findings),
        hint=f"{', '.join(cares)}; then {UPDATE}",
    )


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
    question: Check, observed: Observation, reference: Statistics, limits_of: Callable[[Unit], tuple[float, float]]
) -> Check:
    """Compare each band with its published statistics, and return the check with the result."""
    compared = {
        band: (totals, published)
        for band, totals in zip(observed.bands, observed.totals, strict=True)
        if (published := reference.get(band.modality, {}).get(band.name))
    }
    strange = [
        band for band, (totals, published) in compared.items() if not _is_near(totals, published, *limits_of(band.unit))
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


def _is_near(totals: BandTotals, published: BandStatistics, mean_shift_stds: float, std_ratio: float) -> bool:
    # The comparisons are written so that NaN does not count as near.
    is_mean_near = abs(totals.mean - published.mean) <= mean_shift_stds * published.std
    return is_mean_near and published.std / std_ratio <= totals.std <= published.std * std_ratio


def _possible(unit: Unit) -> tuple[float, float]:
    return unit.max_mean_shift_stds, unit.max_std_ratio


def _described_limits(mean_shift_stds: float, std_ratio: float) -> str:
    mean = f"means within {mean_shift_stds:g} published standard deviations, " if mean_shift_stds < inf else ""
    return f"{mean}standard deviations within a factor of {std_ratio:g}"


def _described(name: str, totals: BandTotals, published: BandStatistics) -> str:
    return (
        f"{name} has mean {totals.mean:,.1f} and standard deviation {totals.std:,.1f}, published are "
        f"{published.mean:,.1f} and {published.std:,.1f}"
    )
