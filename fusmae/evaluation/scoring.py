"""Scores rows of the metrics table over one test set, with intervals over its places."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.config.training import EvaluateConfig
from fusmae.data.shards import ShardReader
from fusmae.evaluation.metrics import score
from fusmae.evaluation.report import ScoreRow, as_report
from fusmae.evaluation.resampling import place_resamples, read_places, score_intervals


class Scoring:
    """A test set, and the bootstrap draws that all of its rows share; `labels` are `[N, K]`, 0 or 1."""

    def __init__(self, section: EvaluateConfig, reader: ShardReader, index: Path, seed: int) -> None:
        self._section, self._reader, self._seed = section, reader, seed
        self.labels = np.asarray(reader.labels)
        self._places = read_places(index, reader.keys)
        self._weights = place_resamples(self._places, section.bootstrap_resamples, seed)

    def row(self, protocol: str, initialisation: str, setting: str, probabilities: NDArray[Any]) -> ScoreRow:
        """One row of the table, from probabilities `[N, K]`."""
        scores = score(self.labels, probabilities, self._reader.classes, self._section.threshold)
        intervals = score_intervals(self.labels, probabilities, self._places, self._weights)
        return ScoreRow(protocol, initialisation, setting, scores, intervals)

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
