"""What an examination says of a dataset."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.data.index import SPLITS, Split
from fusmae.data.shards import LeftOut
from fusmae.examination.check import Check
from fusmae.examination.observe import HISTOGRAM_EDGES, Band, BandTotals
from fusmae.modalities import BandStatistics


@dataclass(frozen=True)
class BandSummary:
    """One band's pixels over all splits, and what is published of it."""

    band: Band
    totals: BandTotals
    reference: BandStatistics | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        totals = self.totals
        return {
            "units": self.band.units,
            "count": totals.count,
            "mean": totals.mean,
            "std": totals.std,
            "lowest": totals.lowest,
            "highest": totals.highest,
            "reference": self.reference.model_dump() if self.reference else None,
            "histogram": {"edges": HISTOGRAM_EDGES[self.band.units].tolist(), "counts": totals.histogram.tolist()},
        }


@dataclass(frozen=True)
class Diagnosis:
    """Every check's answer, and what the report shows beside them.

    Attributes:
        checks: in the order in which they were asked.
        num_pairs: pairs of the index by split.
        class_counts: pairs by class, then by split.
        bands: in the order of the shards' bands.
        positions: longitude and latitude `[N, 2]` of the pairs that have them, by split.
        left_out: pairs that are in no shard, and why.
    """

    checks: tuple[Check, ...]
    num_pairs: Mapping[Split, int]
    class_counts: Mapping[str, Mapping[str, int]]
    bands: tuple[BandSummary, ...]
    positions: Mapping[Split, NDArray[np.float64]]
    left_out: tuple[LeftOut, ...]

    @property
    def blocks(self) -> bool:
        """Training must not start."""
        return any(check.blocks for check in self.checks)

    def summary(self) -> str:
        """What fails, what was expected instead and what to do: an error's text."""
        return summarise(self.checks)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; all but the positions, which are the index's."""
        statistics: dict[str, dict[str, Any]] = {}
        for summary in self.bands:
            statistics.setdefault(summary.band.modality, {})[summary.band.name] = summary.to_json()
        return {
            "blocks": self.blocks,
            "checks": [check.to_json() for check in self.checks],
            "pairs": {split: self.num_pairs[split] for split in SPLITS},
            "classes": {name: dict(counts) for name, counts in self.class_counts.items()},
            "bands": statistics,
            "left_out": [asdict(item) for item in self.left_out],
        }


def summarise(checks: Sequence[Check]) -> str:
    """Of those that block: what fails, what was expected instead and what to do."""
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
