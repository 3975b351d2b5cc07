"""Checks of pixels: contrast, nodata, histograms, units, polarisation, place, size, and the offset of S2.

The offset of 1000 that processing baselines since 04.00 add must be in all digital numbers, or in none.
`fusmae.rasters.s2_offset` judges the bands of one pair. A pair with dark floors contains no offset. A pair without dark
floors may be covered by cloud, so bright pairs count only where an acquisition has many of them. The baseline in the
product's name, such as `_N0400_`, counts only where the pair's floors agree, because a source may have subtracted the
offset.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain
from math import inf

import numpy as np
from numpy.typing import NDArray

from fusmae.data.index import Pair
from fusmae.data.shards import LeftOut
from fusmae.examination.check import UPDATE, Check, counted, joined, keys_left_out, some
from fusmae.examination.observe import BandTotals, Observation
from fusmae.modalities import BandStatistics, Statistics
from fusmae.rasters.s1_units import CROSSED_DB
from fusmae.rasters.s2_offset import adds_offset, dark_level, judge_floors, named_baseline
from fusmae.units import UNITS, Unit

MAX_NODATA_SHARE = 0.1
"""Maximum share of nodata in a pair: a missing corner does no harm, but with more a model learns where swaths end."""

_TYPICAL = (1.0, 3.0)
"""Maximum difference of a band's mean from the published one in published standard deviations, and maximum ratio of
the standard deviations. Real data of one scene or season may exceed them, so that the user must judge."""

_MAX_CROSSED_SHARE = 0.2
"""Maximum share of pairs with VH above VV, which happens over calm water: in 1 of the sample's 60 pairs. The limit is
far below one half, so that a swap in only some of the pairs is found too."""
MIN_PAIRS = 8
"""Minimum number of pairs to judge an acquisition; fewer pairs may all be covered by cloud."""

# A few pairs with the offset may seem to have none: atmospheric correction makes the darkest water negative.
_OFFSET_SHARE = 0.95
# Up to this share, bright pairs may be under thick cloud that is not flagged. Clouds cover fewer pairs: 12 % of
# BigEarthNet's pairs have any snow, cloud or shadow, and only a part of those is bright from edge to edge.
_MAX_BRIGHT_SHARE = 0.1
# One cloud may cover a tile and its neighbour, which are a large share of few pairs.
_MIN_BRIGHT = 3
# Pairs without evidence are judged like the others of their acquisition if more than this share has evidence.
_MIN_TOLD_SHARE = 0.5


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
        what="All modalities of a pair have the same coordinate system and bounds.",
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


@dataclass(frozen=True)
class _Verdicts:
    """Keys of pairs with the offset and without it, and the evidence used; other pairs are undecided."""

    offset: list[str]
    clear: list[str]
    signals: list[str]


def check_offset(pairs: Sequence[Pair], observed: Observation, stated: int) -> Check:
    """Check that digital numbers contain the offset that the dataset states, in every acquisition.

    Args:
        pairs: pairs of the index.
        observed: observation of the shards.
        stated: offset in digital numbers that the dataset states; 0 for none.
    """
    verdicts = _judge(pairs, observed)
    wrong = verdicts.clear if stated else verdicts.offset
    right = verdicts.offset if stated else verdicts.clear
    told = len(wrong) + len(right)
    says = {True: "hold an offset of about 1000", False: "hold no offset"}
    sentences = [f"{counted(len(wrong), 'pair')} {says[not stated]}"] if wrong else []
    if wrong and right:
        sentences.append(f"{len(right):,} others {says[bool(stated)]}: the dataset is mixed")
    untold = len(observed.keys) - told
    if told and untold:
        sentences.append(
            f"{counted(untold, 'other')} can't be told: cloudy, without contrast or of a small acquisition"
        )
    signals = f" (by {' and '.join(verdicts.signals)})" if verdicts.signals else ""
    return Check(
        name="offset",
        severity="blocks",
        what="S2 digital numbers hold the offset of processing baseline 04.00 throughout, or nowhere, as is stated.",
        found=len(wrong),
        got=joined(
            sentences if wrong else [f"{counted(told, 'pair')} {says[bool(stated)]}", *sentences] if told else [],
            "too few pairs to tell",
        )
        + signals,
        expected=f"an offset of {stated:,}, as the dataset states" if stated else "no offset, as the dataset states",
        examples=some(wrong),
        hint="subtract 1000 from the digital numbers of products with baseline 04.00 and above, in every pair alike, "
        f"then {UPDATE}; if the pairs lie under thick cloud, agree to them in data.tolerated.offset",
        is_skipped=not told,
    )


def _judge(pairs: Sequence[Pair], observed: Observation) -> _Verdicts:
    floors = observed.measures.floor[:, observed.columns(lambda band: band.unit.quantity == "reflectance")]
    signs, is_told = judge_floors(floors), ~np.isnan(dark_level(floors))
    rows_of: dict[datetime, list[int]] = defaultdict(list)
    members = {pair.key: pair for pair in pairs}
    for row, key in enumerate(observed.keys):
        pair = members.get(key)
        if pair is not None and not pair.is_cloudy and is_told[row]:
            rows_of[pair.date].append(row)
    offset: set[int] = set()
    clear: set[int] = set()
    signals: list[str] = []

    def tell(signal: str, verdicts: Sequence[tuple[list[int], list[int]]]) -> None:
        if any(with_offset or without for with_offset, without in verdicts):
            signals.append(signal)
        for with_offset, without in verdicts:
            offset.update(with_offset)
            clear.update(without)

    def untold(rows: Iterable[int]) -> list[int]:
        return [row for row in rows if row not in offset and row not in clear]

    large = [rows for rows in rows_of.values() if len(rows) >= MIN_PAIRS]
    small = [row for rows in rows_of.values() if len(rows) < MIN_PAIRS for row in rows]
    tell(f"the dark floor of {counted(len(large), 'acquisition')}", [_by_floor(rows, signs) for rows in large])
    tell("the baseline in product names", [_by_name(observed.keys, untold(chain(*large, small)), signs)])
    small = untold(small)
    if len(small) >= MIN_PAIRS:
        tell("the dark floor of small acquisitions together", [_by_floor(small, signs)])
    # Single acquisitions may have a few bright pairs under cloud; many bright pairs in total are no clouds.
    bright = [row for row in untold(chain(*large, small)) if signs[row] == 1]
    if len(bright) + len(clear) >= MIN_PAIRS and _are_many(bright, len(bright) + len(clear)):
        tell("the dark floor of all pairs together", [(bright, [])])
    return _Verdicts([observed.keys[row] for row in offset], [observed.keys[row] for row in clear], signals)


def _by_floor(rows: Sequence[int], signs: NDArray[np.int8]) -> tuple[list[int], list[int]]:
    """Judge rows together; return those with and without the offset, and neither for bright rows that may be cloud."""
    bright, dark = ([row for row in rows if signs[row] == sign] for sign in (1, -1))
    num_told = len(bright) + len(dark)
    if len(bright) >= _OFFSET_SHARE * num_told and num_told > _MIN_TOLD_SHARE * len(rows):
        return list(rows), []
    return bright if _are_many(bright, num_told) else [], dark


def _are_many(bright: Sequence[int], num_rows: int) -> bool:
    return len(bright) >= _MIN_BRIGHT and len(bright) > _MAX_BRIGHT_SHARE * num_rows


def _by_name(keys: Sequence[str], rows: Sequence[int], signs: NDArray[np.int8]) -> tuple[list[int], list[int]]:
    """Return rows with and without the offset, where the baseline in the name and the pair's floors agree."""
    offset, clear = [], []
    for row in rows:
        named = named_baseline([keys[row]])
        if named is None:
            continue
        if adds_offset(named[0]) and signs[row] == 1:
            offset.append(row)
        elif not adds_offset(named[0]) and signs[row] == -1:
            clear.append(row)
    return offset, clear
