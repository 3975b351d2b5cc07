"""The examination: every check of an index, of its shards and of what their dataset states."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.config.task import Task
from fusmae.data.cluster import Run
from fusmae.data.index import SPLITS, Pair, Split
from fusmae.data.shards import LeftOut, ShardFolder
from fusmae.errors import ConfigError
from fusmae.examination import index, labels, pixels
from fusmae.examination.check import Check, Dataset, Question
from fusmae.examination.observe import Band, BandTotals, histogram_edges, merge, observe
from fusmae.examination.values import Values, values_of
from fusmae.modalities import BandStatistics
from fusmae.sources.shared.source import Facts

# Those of each module in the order in which it defines them, which is the order of the report.
_QUESTIONS = [
    item for module in (index, labels, pixels) for item in vars(module).values() if isinstance(item, Question)
]

CHECK_NAMES = tuple(question.name for question in _QUESTIONS)
"""Names of all checks; all except `places` are keys of `data.tolerated`."""


@dataclass(frozen=True)
class BandSummary:
    """Totals of one band's pixels over all splits, with the published statistics of the band."""

    band: Band
    totals: BandTotals
    reference: BandStatistics | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        edges, counts = histogram_edges(self.band.unit), self.totals.histogram
        return {
            "units": self.band.units,
            **{name: getattr(self.totals, name) for name in ("count", "mean", "std", "lowest", "highest")},
            "reference": self.reference.model_dump() if self.reference else None,
            "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
        }


@dataclass(frozen=True)
class Diagnosis:
    """The result of every check, and what the report shows beside them."""

    checks: tuple[Check, ...]  # results in the order of the checks
    num_pairs: Mapping[Split, int]  # number of pairs of the index by split
    task: Task  # what the labels are
    class_counts: Mapping[str, Mapping[Split, int]]  # number of pairs by class, then by split
    pixel_shares: Mapping[str, Mapping[Split, float]]  # share of pixels by class, then by split; of a segmentation only
    values: Values | None  # numbers of a regression; None for classes
    bands: tuple[BandSummary, ...]  # summaries in the order of the shards' bands
    positions: Mapping[Split, NDArray[np.float64]]  # longitudes and latitudes `[N, 2]` in degrees, as far as known
    left_out: tuple[LeftOut, ...]  # pairs that are in no shard, with the reason

    @property
    def blocks(self) -> bool:
        """Whether training must not start."""
        return any(check.blocks for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Return everything except the positions, which are in the index, as plain JSON values."""
        statistics: dict[str, dict[str, Any]] = {}
        for summary in self.bands:
            statistics.setdefault(summary.band.modality, {})[summary.band.name] = summary.to_json()
        return {
            "blocks": self.blocks,
            "checks": [check.to_json() for check in self.checks],
            "pairs": {split: self.num_pairs[split] for split in SPLITS},
            "classes": {name: dict(counts) for name, counts in self.class_counts.items()},
            **(
                {"pixel_shares": {name: dict(found) for name, found in self.pixel_shares.items()}}
                if self.pixel_shares
                else {}
            ),
            **(
                {"values": {split: found.to_json() for split, found in self.values.by_split.items()}}
                if self.values
                else {}
            ),
            "bands": statistics,
            "left_out": [asdict(item) for item in self.left_out],
        }


def examine_data(
    pairs: Sequence[Pair],
    task: Task,
    facts: Facts,
    *,
    shards: Path,
    tolerated: Mapping[str, int],
    run: Run = map,
) -> Diagnosis:
    """Run every check of a dataset, of which `Dataset` explains the parts.

    `tolerated` has the number of findings that are allowed, by name of the check. `run` applies a function to the path
    of every shard in the folder `shards`, and returns the results in their order.

    Raises:
        ConfigError: `tolerated` has a name that is not a check.
        ShardError: there are no shards, or they are damaged.
    """
    _require_known(tolerated)
    folder = ShardFolder(shards)
    observed = merge(run(observe, folder.paths()))
    data = Dataset(pairs, task, facts, observed, folder.left_out, folder.map_classes)
    return Diagnosis(
        checks=tuple(question.ask(data, tolerated.get(question.name, 0)) for question in _QUESTIONS),
        num_pairs=Counter(pair.split for pair in pairs),
        task=task,
        class_counts=labels.class_counts(data),
        pixel_shares=labels.pixel_shares(data),
        values=values_of(observed) if task.value is not None else None,
        bands=tuple(
            BandSummary(band, totals, data.published(band))
            for band, totals in zip(observed.bands, observed.totals, strict=True)
        ),
        positions={split: _positions(pairs, split) for split in SPLITS},
        left_out=tuple(data.left_out),
    )


def examine_index(
    pairs: Sequence[Pair], task: Task, facts: Facts, *, tolerated: Mapping[str, int] | None = None
) -> list[Check]:
    """Run the checks of an index that need no imagery; arguments are those of `examine_data`.

    Raises:
        ConfigError: `tolerated` has a name that is not a check.
    """
    tolerated = tolerated or {}
    _require_known(tolerated)
    data = Dataset(pairs, task, facts, merge([]))
    return [question.ask(data, tolerated.get(question.name, 0)) for question in _QUESTIONS if not question.needs_shards]


def _require_known(tolerated: Mapping[str, int]) -> None:
    """Refuse a misspelt name before anything is read, because reading a whole dataset takes hours."""
    # A place in two splits can't be tolerated: test data must not have been trained on.
    known = [name for name in CHECK_NAMES if name != "places"]
    if unknown := sorted(set(tolerated) - set(known)):
        raise ConfigError(
            f"data.tolerated names {', '.join(unknown)}, which is no check of the examination that can be agreed to.",
            got=unknown,
            expected=f"some of {', '.join(known)}",
        )


def _positions(pairs: Sequence[Pair], split: Split) -> NDArray[np.float64]:
    found = [(pair.lon, pair.lat) for pair in pairs if pair.split == split and pair.lon is not None]
    return np.array(found, np.float64).reshape(-1, 2)


def summarise(checks: Sequence[Check]) -> str:
    """Describe the checks that block training: what fails, what was expected instead and what to do."""
    failing = [check for check in checks if check.blocks]
    if not failing:
        return "The examination finds nothing that blocks training."
    fail = "fails" if len(failing) == 1 else "fail"
    lines = [f"The examination blocks training: {len(failing)} of {len(checks)} checks {fail}."]
    for check in failing:
        tolerated = f" ({check.tolerated:,} tolerated)" if check.tolerated else ""
        lines += [
            f"{check.name}: {check.what}",
            f"  got:      {check.got}{tolerated}",
            f"  expected: {check.expected}",
            *([f"  examples: {', '.join(check.examples[:3])}"] if check.examples else []),
            f"  next:     {check.hint}",
        ]
    return "\n".join(lines)
