"""Scores rows of the metrics table over one test set, with intervals over its places."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.config.training import EvaluateConfig
from fusmae.data.shards import ShardReader
from fusmae.evaluation.report import ScoreRow, as_report
from fusmae.evaluation.resampling import place_resamples, read_places, score_intervals
from fusmae.evaluation.scorers import Scorer, scorer_of


class Scoring:
    """A test set, and the bootstrap draws that all of its rows share.

    Attributes:
        task: what the labels are.
        labels: labels of tiles `[N, K]`.
    """

    def __init__(self, section: EvaluateConfig, reader: ShardReader, index: Path, seed: int) -> None:
        self._section, self._reader, self._seed = section, reader, seed
        self.task, self.labels = reader.task, np.asarray(reader.labels)
        self._places = read_places(index, reader.keys)
        self._weights = place_resamples(self._places, section.bootstrap_resamples, seed)

    def scorer(self, protocol: str) -> Scorer:
        """The scorer of a protocol's rows: kNN and probe read labels of tiles, also where pixels have labels."""
        task = self.task if protocol == "finetune" else self.task.of_tiles
        return scorer_of(task, self.labels, self._section.threshold)

    def row(self, protocol: str, initialisation: str, setting: str, found: NDArray[Any]) -> ScoreRow:
        """One row of the table, from what the protocol's scorer takes, `[N, …]`."""
        scorer = self.scorer(protocol)
        intervals = score_intervals(scorer, found, self._places, self._weights)
        return ScoreRow(protocol, initialisation, setting, scorer, scorer.score(found), intervals)

    def report(self, rows: Sequence[ScoreRow]) -> dict[str, Any]:
        """The whole table, see `as_report`."""
        return as_report(
            rows,
            num_pairs=len(self._reader),
            num_places=len(set(self._places)),
            resamples=self._section.bootstrap_resamples,
            seed=self._seed,
            warning=self._reader.origin.warning,
        )
