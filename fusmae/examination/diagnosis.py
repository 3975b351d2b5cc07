"""The result of an examination: all checks of a dataset, with the figures of the report."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.data.index import SPLITS, Split
from fusmae.data.shards import LeftOut
from fusmae.examination.check import Check
from fusmae.examination.observe import Band, BandTotals, histogram_edges
from fusmae.modalities import BandStatistics


@dataclass(frozen=True)
class BandSummary:
    """Totals of one band's pixels over all splits, with the published statistics of the band."""

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
            "histogram": {"edges": histogram_edges(self.band.unit).tolist(), "counts": totals.histogram.tolist()},
        }


@dataclass(frozen=True)
class Diagnosis:
    """The result of every check, and what the report shows beside them.

    Attributes:
        checks: results in the order of the checks.
        num_pairs: number of pairs of the index by split.
        class_counts: number of pairs by class, then by split.
        bands: summaries in the order of the shards' bands.
        positions: longitude and latitude in degrees, `[N, 2]`, of the pairs that have them, by split.
        left_out: pairs that are in no shard, with the reason.
    """

    checks: tuple[Check, ...]
    num_pairs: Mapping[Split, int]
    class_counts: Mapping[str, Mapping[str, int]]
    bands: tuple[BandSummary, ...]
    positions: Mapping[Split, NDArray[np.float64]]
    left_out: tuple[LeftOut, ...]

    @property
    def blocks(self) -> bool:
        """Whether training must not start."""
        return any(check.blocks for check in self.checks)

    def summary(self) -> str:
        """Return an error's text: which checks fail, what was expected instead and what to do."""
        return summarise(self.checks)

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
            "bands": statistics,
            "left_out": [asdict(item) for item in self.left_out],
        }


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
