"""Checks of pixels: contrast, nodata, histograms, units, polarisation, place, size, and the offset of S2.

The offset of 1000 that processing baselines since 04.00 add must be in all digital numbers, or in none.
`fusmae.rasters.s2_offset` judges the bands of one pair. A pair with dark floors contains no offset. A pair without dark
floors may be covered by cloud, so bright pairs count only where an acquisition has many of them. The baseline in the
product's name, such as `_N0400_`, counts only where the pair's floors agree, because a source may have subtracted the
offset.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import chain, compress
from math import inf

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusmae.examination.check import UPDATE, Dataset, Result, counted, findings, question, some
from fusmae.examination.observe import BandTotals, Observation
from fusmae.modalities import BandStatistics
from fusmae.rasters.s1_units import CROSSED_DB
from fusmae.rasters.s2_offset import adds_offset, dark_level, judge_floors, named_baseline
from fusmae.units import Unit

# Maximum share of nodata in a pair: a missing corner does no harm, but with more a model learns where swaths end.
_MAX_NODATA_SHARE = 0.1
# Maximum difference of a band's mean from the published one in published standard deviations, and maximum ratio of the
# standard deviations. Real data of one scene or season may exceed them, so that the user must judge.
_TYPICAL = (1.0, 3.0)
# Maximum share of pairs with VH above VV, which happens over calm water: in 1 of the sample's 60 pairs. The limit is
# far below one half, so that a swap in only some of the pairs is found too.
_MAX_CROSSED_SHARE = 0.2
# Minimum number of pairs to judge an acquisition; fewer pairs may all be covered by cloud.
_MIN_PAIRS = 8
# A few pairs with the offset may seem to have none: atmospheric correction makes the darkest water negative.
_OFFSET_SHARE = 0.95
# Up to this share, bright pairs may be under thick cloud that is not flagged. Clouds cover fewer pairs: 12 % of
# BigEarthNet's pairs have any snow, cloud or shadow, and only a part of those is bright from edge to edge.
_MAX_BRIGHT_SHARE = 0.1
# One cloud may cover a tile and its neighbour, which are a large share of few pairs.
_MIN_BRIGHT = 3
# Pairs without evidence are judged like the others of their acquisition if more than this share has evidence.
_MIN_TOLD_SHARE = 0.5


@question("blocks")
def check_georeference(data: Dataset) -> Result:
    """All modalities of a pair have the same coordinate system and bounds."""
    return findings(
        data.left_out_for("georeference"),
        otherwise=f"no pair of {len(data.pairs):,} was left out for its place",
        expected="equal bounds within a pair",
        hint=f"bring the right files, then {UPDATE}; or agree to go on without these pairs in "
        "data.tolerated.georeference",
    )


@question("blocks")
def check_grid(data: Dataset) -> Result:
    """Every band and map has as many pixels as `data.tile_m` and its resolution make."""
    return findings(
        data.left_out_for("grid"),
        otherwise=f"no pair of {len(data.pairs):,} was left out for its size",
        expected="each band of its stated size",
        hint=f"cut the tiles anew, then {UPDATE}; where all have this size, set data.tile_m to their side in "
        "metres, then `dvc repro`; or agree to go on without these pairs in data.tolerated.grid",
    )


@question("blocks")
def check_constant(data: Dataset) -> Result:
    """No band of a pair has one value only, unless it was clipped as dark water is."""
    observed, is_constant = data.observed, data.observed.is_constant
    clipped_to = np.array([-inf if (value := band.unit.clipped_to) is None else value for band in observed.bands])
    # A pair in which no band has contrast is not water: S1 would show waves or noise.
    has_contrast = ~is_constant.all(axis=1, keepdims=True)
    is_clipped = is_constant & has_contrast & (observed.mean <= clipped_to)
    is_flat = is_constant & ~is_clipped
    num_clipped = int(is_clipped.any(axis=1).sum())
    return findings(
        {f"with a band of one value: {_by_band(observed, is_flat)}": observed.keys_where(is_flat.any(axis=1))},
        otherwise="" if num_clipped else "every band has contrast",
        remark=f"{counted(num_clipped, 'pair')} with a band clipped to {clipped_to.max():g} or less throughout, "
        f"as dark water is, which is no finding: {_by_band(observed, is_clipped)}"
        if num_clipped
        else "",
        expected="several values in each band of each pair",
        hint=f"look at these pairs; mend them, then {UPDATE}; or, if they were published so, agree to them in "
        "data.tolerated.constant",
    )


def _by_band(observed: Observation, flags: NDArray[np.bool_]) -> str:
    numbers = zip(observed.bands, flags.sum(axis=0), strict=True)
    return ", ".join(f"{band.name} in {number:,}" for band, number in numbers if number)


@question("blocks")
def check_nodata(data: Dataset) -> Result:
    """Pixels are finite and nearly all are data (0 in all bands of a modality is nodata)."""
    observed = data.observed
    share = observed.nodata_share.max(axis=1, initial=0)
    is_edge = observed.clipped_share > 0
    edge = observed.keys_where(is_edge.any(axis=1))
    names = dict.fromkeys(observed.bands[column].modality.upper() for column in np.flatnonzero(is_edge.any(axis=0)))
    return findings(
        {
            **data.left_out_for("nodata"),
            f"with more than {_MAX_NODATA_SHARE:.0%} nodata": observed.keys_where(share > _MAX_NODATA_SHARE),
        },
        otherwise=f"at most {share.max(initial=0):.1%} nodata in a pair",
        remark=f"{counted(len(edge), 'pair')} with pixels that are 1 in all bands of {', '.join(names)}, as along the "
        f"edge of a swath, which is no finding: {', '.join(some(edge))}"
        if edge
        else "",
        expected=f"finite pixels, and at most {_MAX_NODATA_SHARE:.0%} of 0 in all bands",
        hint=f"fill these pairs' nodata, then {UPDATE}; leave them out of the raw data, then {UPDATE}; or "
        "agree to them in data.tolerated.nodata",
    )


@question("blocks")
def check_units(data: Dataset) -> Result:
    """All pixels are in the unit of their modality.

    Tiles in another unit are in no shard. Added here is what shards take: tiles that were cut to whole numbers, and
    units that only a whole data set reveals.
    """
    observed = data.observed
    units = {band.modality.upper(): band.unit for band in observed.bands}
    refused = data.left_out_for("units")
    kinds = dict(refused)
    for name, unit in units.items():
        columns = [band.modality.upper() == name for band in observed.bands]
        if unit.is_never_whole:
            # No sensor delivers such a tile by chance, so one suffices.
            is_whole = observed.is_whole[:, columns] & ~observed.is_constant[:, columns]
            kinds[f"whose {name} is cut to whole numbers"] = observed.keys_where(is_whole.any(axis=1))
        highest = max(totals.highest for totals in compress(observed.totals, columns))
        for other in unit.lookalikes:
            if not other.is_certain and highest <= other.highest:
                kinds[f"whose {name} looks like {other.name}, not {unit.noun}"] = observed.keys
    right = {name: filter(None, [f"{name} in {unit.description}", unit.expected]) for name, unit in units.items()}
    return findings(
        kinds,
        otherwise=", ".join(f"{name} in {unit.noun}" for name, unit in units.items()),
        remark="the others are in the stated units" if refused and observed.keys else "",
        expected="; ".join(": ".join(parts) for parts in right.values()),
        hint="; ".join([*(unit.care.format(name) for name, unit in units.items() if unit.care), f"then {UPDATE}"]),
    )


@question("blocks")
def check_offset(data: Dataset) -> Result:
    """S2 digital numbers hold the offset of processing baseline 04.00 throughout, or nowhere, as is stated."""
    stated, keys = data.facts.s2_offset, data.observed.keys
    expected = f"{f'an offset of {stated:,}' if stated else 'no offset'}, as the dataset states"
    verdicts, evidence = _judge_offset(data)
    if not verdicts.any():
        return Result(0, "too few pairs to tell", expected, is_skipped=True)
    words = {1: "hold an offset of about 1000", -1: "hold no offset"}
    sign = 1 if stated else -1
    right, wrong = (data.observed.keys_where(verdicts == verdict) for verdict in (sign, -sign))
    sentences = [f"{counted(len(wrong), 'pair')} {words[-sign]}"] if wrong else []
    if right:
        mixed = f"{len(right):,} others {words[sign]}: the dataset is mixed"
        sentences.append(mixed if wrong else f"{counted(len(right), 'pair')} {words[sign]}")
    if unknown := len(keys) - len(right) - len(wrong):
        sentences.append(
            f"{counted(unknown, 'other')} can't be told: cloudy, without contrast or of a small acquisition"
        )
    return Result(
        len(wrong),
        f"{'; '.join(sentences)} (by {' and '.join(evidence)})",
        expected,
        some(wrong),
        "subtract 1000 from the digital numbers of products with baseline 04.00 and above, in every pair alike, then "
        f"{UPDATE}; if the pairs lie under thick cloud, agree to them in data.tolerated.offset",
    )


def _judge_offset(data: Dataset) -> tuple[NDArray[np.int8], list[str]]:
    """Verdict on each observed pair, 1 with the offset, -1 without, 0 where undecided; and the evidence used."""
    observed = data.observed
    floors = observed.floor[:, [band.unit.quantity == "reflectance" for band in observed.bands]]
    signs, has_floor = judge_floors(floors), ~np.isnan(dark_level(floors))
    dates = {pair.key: pair.date for pair in data.pairs if not pair.is_cloudy}
    rows_of: dict[datetime, list[int]] = defaultdict(list)
    for row, key in enumerate(observed.keys):
        if has_floor[row] and key in dates:
            rows_of[dates[key]].append(row)
    large = [rows for rows in rows_of.values() if len(rows) >= _MIN_PAIRS]
    small = [row for rows in rows_of.values() if len(rows) < _MIN_PAIRS for row in rows]
    verdicts, evidence = np.zeros(len(observed.keys), np.int8), dict[str, None]()

    def tell(signal: str, rows: Sequence[int], told: ArrayLike) -> None:
        verdicts[rows] = told
        if np.any(told):
            evidence[signal] = None

    def untold(rows: Iterable[int]) -> list[int]:
        return [row for row in rows if not verdicts[row]]

    for rows in large:
        tell(f"the dark floor of {counted(len(large), 'acquisition')}", rows, _by_floor(signs[rows]))
    rows = untold(chain(*large, small))
    tell("the baseline in product names", rows, _by_name([observed.keys[row] for row in rows], signs[rows]))
    rows = untold(small)
    if len(rows) >= _MIN_PAIRS:
        tell("the dark floor of small acquisitions together", rows, _by_floor(signs[rows]))
    # Single acquisitions may have a few bright pairs under cloud; many bright pairs in total are no clouds.
    bright = [row for row in untold(chain(*large, small)) if signs[row] == 1]
    num_told = len(bright) + int((verdicts == -1).sum())
    if num_told >= _MIN_PAIRS and _are_many(len(bright), num_told):
        tell("the dark floor of all pairs together", bright, 1)
    return verdicts, list(evidence)


def _by_floor(signs: NDArray[np.int8]) -> NDArray[np.int8]:
    """Verdicts on pairs that are judged together, 0 for bright pairs that may be cloud."""
    num_bright, num_told = int((signs == 1).sum()), int((signs != 0).sum())
    if num_bright >= _OFFSET_SHARE * num_told and num_told > _MIN_TOLD_SHARE * len(signs):
        return np.ones_like(signs)
    return signs if _are_many(num_bright, num_told) else np.minimum(signs, 0)


def _are_many(num_bright: int, num_told: int) -> bool:
    return num_bright >= _MIN_BRIGHT and num_bright > _MAX_BRIGHT_SHARE * num_told


def _by_name(names: Sequence[str], signs: NDArray[np.int8]) -> NDArray[np.int8]:
    """Verdicts where the baseline in the name and the pair's floors agree; 0 elsewhere."""
    baselines = [named_baseline([name]) for name in names]
    stated = [0 if found is None else 1 if adds_offset(found[0]) else -1 for found in baselines]
    return np.where(signs == stated, signs, 0).astype(np.int8)


@question("blocks")
def check_histograms(data: Dataset) -> Result:
    """Each band has the published unit and was not normalised before."""
    return _against_reference(
        data,
        lambda unit: (unit.max_mean_shift_stds, unit.max_std_ratio),
        f"look at the histograms below: pixels may be normalised already or of another unit; mend them, then {UPDATE}",
    )


@question("warns")
def check_typical(data: Dataset) -> Result:
    """Each band's mean and standard deviation are near the published ones."""
    return _against_reference(
        data,
        lambda _: _TYPICAL,
        "look at the histograms below: snow, cloud or a single scene may explain them; so may an offset, rescaled "
        "pixels, or bands in another order",
    )


def _against_reference(data: Dataset, limits_of: Callable[[Unit], tuple[float, float]], hint: str) -> Result:
    """Compare each band with its published statistics, within the limits of its unit as in `_TYPICAL`."""
    bands = dict(zip(data.observed.bands, data.observed.totals, strict=True))
    published = {band: statistics for band in bands if (statistics := data.published(band))}
    strange = {
        band.name: f"{band.name} has mean {bands[band].mean:,.1f} and standard deviation {bands[band].std:,.1f}, "
        f"published are {reference.mean:,.1f} and {reference.std:,.1f}"
        for band, reference in published.items()
        if not _is_near(bands[band], reference, *limits_of(band.unit))
    }
    if not published:
        got = "no reference is known"
    else:
        got = "; ".join(strange.values()) or f"{counted(len(published), 'band')} within these limits"
        if without := [band.name for band in bands if band not in published]:
            got += f"; no reference for {', '.join(without)}"
    limits = {band.unit.noun: _described(*limits_of(band.unit)) for band in bands}
    expected = "; ".join([*(f"{noun}: {limit}" for noun, limit in limits.items()), "findings are bands"])
    return Result(len(strange), got, expected, tuple(strange)[:10], hint, is_skipped=not published)


def _is_near(totals: BandTotals, published: BandStatistics, mean_shift_stds: float, std_ratio: float) -> bool:
    # The comparisons are written so that NaN does not count as near.
    is_mean_near = abs(totals.mean - published.mean) <= mean_shift_stds * published.std
    return is_mean_near and published.std / std_ratio <= totals.std <= published.std * std_ratio


def _described(mean_shift_stds: float, std_ratio: float) -> str:
    mean = f"means within {mean_shift_stds:g} published standard deviations, " if mean_shift_stds < inf else ""
    return f"{mean}standard deviations within a factor of {std_ratio:g}"


@question("blocks")
def check_polarisation(data: Dataset) -> Result:
    """VH is below VV: vegetation and ground scatter little into the other polarisation."""
    observed = data.observed
    columns = {band.name: column for column, band in enumerate(observed.bands)}
    if not {"VV", "VH"} <= columns.keys() or not observed.keys:
        return Result(0, "there are no VV and VH to compare", "VV and VH", is_skipped=True)
    mean = observed.mean
    crossed = observed.keys_where(mean[:, columns["VH"]] - mean[:, columns["VV"]] > CROSSED_DB)
    share = len(crossed) / len(observed.keys)
    is_swapped = share > _MAX_CROSSED_SHARE
    return Result(
        len(crossed) if is_swapped else 0,
        f"VH is above VV by more than {CROSSED_DB:g} dB in {len(crossed):,} of "
        f"{counted(len(observed.keys), 'pair')} ({share:.0%})" + (": as if VV and VH were swapped" * is_swapped),
        f"in at most {_MAX_CROSSED_SHARE:.0%} of the pairs; over calm water it happens",
        some(crossed) if is_swapped else (),
        f"name S1 bands by what they are, never by their order in a folder, then {UPDATE}; if the pairs show calm "
        "water, agree to them in data.tolerated.polarisation",
    )
