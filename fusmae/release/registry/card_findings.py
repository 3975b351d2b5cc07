"""What a model card computes from data and scores: the coverage of the pairs, and known failures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fusmae.data.index import SPLITS, Pair, Split

Rows = Mapping[str, Mapping[str, Any]]
"""One model's scores by modality setting, the one with every modality first, as in `scores.json`."""

FEW_PAIRS = 5
WIDE_INTERVAL = 0.1


def known_failures(rows: Rows, absent: list[str], random: Rows, report: Mapping[str, Any]) -> list[str]:
    """Known failures as sentences, each with the numbers that it is based on.

    Args:
        rows: scores of the model.
        absent: classes without a test pair.
        random: scores of the same model from random initial weights.
        report: report of the examination.
    """
    every = every_modality(rows)
    classes, num_test = report["classes"], report["pairs"]["test"]
    per_class = rows[every]["per_class_ap"]
    few = {name: classes[name]["test"] for name in per_class if classes[name]["test"] < FEW_PAIRS}
    untrained = [name for name, counts in classes.items() if not counts["train"]]
    shares = {name: chance(classes[name]["test"], num_test) for name in per_class}
    at_chance = [f"{name} ({ap:.2f}, {shares[name]:.2f})" for name, ap in per_class.items() if ap <= shares[name]]
    found = [
        _listed("Not tested, for no test pair has them", absent),
        _listed("Not learned, for no training pair has them", untrained),
        _listed("At or below chance (AP, and the class’s share of the test pairs)", at_chance),
        _listed(
            f"Tested on fewer than {FEW_PAIRS} pairs, so that their AP says little",
            [f"{name} ({count})" for name, count in few.items()],
        ),
        *_wide(rows),
        *_missing(rows, every),
        *_no_gain(rows, random),
        *_findings(report),
    ]
    return [sentence for sentence in found if sentence]


def every_modality(rows: Rows) -> str:
    """The setting with the most modalities."""
    return max(rows, key=lambda setting: setting.count("+"))


def chance(positives: int, pairs: int) -> float:
    """AP that a random ranking has approximately: the share of positive pairs."""
    return positives / pairs


def _listed(problem: str, names: list[str]) -> str:
    return f"{problem}: {'; '.join(names)}." if names else ""


def _wide(rows: Rows) -> list[str]:
    intervals = {setting: scores["intervals"].get("micro_ap") for setting, scores in rows.items()}
    wide = [
        f"{setting} ({ends[0]:.2f}–{ends[1]:.2f})"
        for setting, ends in intervals.items()
        if ends and ends[1] - ends[0] > WIDE_INTERVAL
    ]
    return [_listed(f"95 % intervals of micro AP wider than {WIDE_INTERVAL}: smaller differences mean nothing", wide)]


def _missing(rows: Rows, every: str) -> list[str]:
    best = rows[every]["micro_ap"]
    worse = [
        f"{setting} ({scores['micro_ap']:.3f} instead of {best:.3f})"
        for setting, scores in rows.items()
        if scores["micro_ap"] < best
    ]
    better = [
        f"{setting} ({scores['micro_ap']:.3f}, all {best:.3f})"
        for setting, scores in rows.items()
        if scores["micro_ap"] > best
    ]
    return [
        _listed("Micro AP falls where a modality is missing", worse),
        _listed("The other modality does not help: micro AP is higher without it", better),
    ]


def _no_gain(rows: Rows, random: Rows) -> list[str]:
    lost = [
        f"{setting} ({rows[setting]['micro_ap']:.3f}, random {random[setting]['micro_ap']:.3f})"
        for setting in rows
        if setting in random and rows[setting]["micro_ap"] <= random[setting]["micro_ap"]
    ]
    return [_listed("Pretraining does not beat random initial weights in micro AP", lost)]


def _findings(report: Mapping[str, Any]) -> list[str]:
    return [
        f"The examination’s check `{check['name']}` {_STATUSES[check['status']]}: {check['got']}."
        for check in report["checks"]
        if check["status"] in _STATUSES
    ]


_STATUSES = {"warns": "warns", "tolerated": "was tolerated", "skipped": "can’t tell"}


@dataclass(frozen=True)
class Coverage:
    """What some pairs cover.

    Attributes:
        num_pairs: number of pairs.
        places: places in which they lie.
        countries: countries as the source states them; empty if it states none.
        first: date of the earliest acquisition.
        last: date of the latest acquisition.
        months: months with a pair, from 1 to 12.
        bounds: west, south, east, north of the tiles' centres in degrees (WGS 84); None if the source does not state
            them for every pair.
        num_snowy: number of pairs with seasonal snow, as the source states it.
        num_cloudy: number of pairs with cloud or cloud shadow, as the source states it.
    """

    num_pairs: int
    places: frozenset[str]
    countries: tuple[str, ...]
    first: datetime
    last: datetime
    months: frozenset[int]
    bounds: tuple[float, float, float, float] | None
    num_snowy: int
    num_cloudy: int


def cover(pairs: Sequence[Pair]) -> Coverage:
    """What some pairs cover; there must be at least one."""
    dates = [pair.date for pair in pairs]
    known = [(pair.lon, pair.lat) for pair in pairs if pair.lon is not None and pair.lat is not None]
    lons, lats = [lon for lon, _ in known], [lat for _, lat in known]
    return Coverage(
        num_pairs=len(pairs),
        places=frozenset(pair.place for pair in pairs),
        countries=tuple(sorted({pair.country for pair in pairs} - {""})),
        first=min(dates),
        last=max(dates),
        months=frozenset(date.month for date in dates),
        bounds=(min(lons), min(lats), max(lons), max(lats)) if len(known) == len(pairs) else None,
        num_snowy=sum(pair.is_snowy for pair in pairs),
        num_cloudy=sum(pair.is_cloudy for pair in pairs),
    )


def cover_by_split(pairs: Sequence[Pair]) -> dict[Split, Coverage]:
    """What each split covers."""
    return {split: cover([pair for pair in pairs if pair.split == split]) for split in SPLITS}
