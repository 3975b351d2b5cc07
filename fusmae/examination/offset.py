"""Check whether all or no S2 digital numbers contain the offset of 1000 that processing baselines since 04.00 add.

`fusmae.rasters.s2_offset` judges the bands of one pair. A pair with dark floors contains no offset. A pair without dark
floors may be covered by cloud, so bright pairs count only where an acquisition has many of them. The baseline in the
product's name, such as `_N0400_`, counts only where the pair's floors agree, because a source may have subtracted the
offset.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from fusmae.data.index import Pair
from fusmae.examination.check import UPDATE, Check, counted, joined, some
from fusmae.examination.observe import Observation
from fusmae.rasters.s2_offset import adds_offset, dark_level, judge_floors, named_baseline

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
