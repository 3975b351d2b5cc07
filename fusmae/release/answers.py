"""What exported graphs answer over a test set, in the form in which scorers take it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.config.task import Task
from fusmae.data.shards import ShardReader
from fusmae.evaluation.map_counts import count_map
from fusmae.inference.session import Session

_BATCH = 16


@dataclass(frozen=True)
class GraphAnswers:
    """The answers of one graph in one modality setting."""

    found: NDArray[Any]  # `[N, …]`: probabilities, values, or counts of maps
    num_bad: int  # number of probabilities or values that are no valid numbers; they are replaced by 0
    max_change: float  # largest difference from the first graph's answers; of values, in standard deviations


def answers_of_graphs(
    sessions: Sequence[Session], reader: ShardReader, setting: Sequence[str], batch_size: int = _BATCH
) -> list[GraphAnswers]:
    """Run graphs of one task on the same test pairs; maps are counted batch by batch, and none is kept."""
    task = sessions[0].require_task(str(sessions[0].path))
    scale = float(sessions[0].metadata.get("value_std", 1.0))
    parts: list[list[NDArray[Any]]] = [[] for _ in sessions]
    num_bad, changes = [0] * len(sessions), [0.0] * len(sessions)
    for rows in _batches(len(reader), batch_size):
        pixels, maps = reader.read(rows), reader.read_maps(rows) if task.is_dense else None
        first = None
        for at, session in enumerate(sessions):
            raw = session.run(pixels, setting, outputs=[session.output])[session.output]
            first = raw if first is None else first
            # np.max keeps a NaN, which Python's max would drop.
            changes[at] = float(np.max([changes[at], float(np.abs(raw - first).max()) / scale]))
            is_good = np.isfinite(raw) if task.value is not None else (raw >= 0) & (raw <= 1)
            num_bad[at] += int((~is_good).sum())
            parts[at].append(_rows(task, np.where(is_good, raw, np.float32(0)), maps))
    return [
        GraphAnswers(np.concatenate(found), bad, change)
        for found, bad, change in zip(parts, num_bad, changes, strict=True)
    ]


def _rows(task: Task, answers: NDArray[Any], maps: NDArray[Any] | None) -> NDArray[Any]:
    if maps is None:
        return answers
    if task.value is not None:
        return count_map(task, answers[:, 0], None, maps)
    return count_map(task, answers.argmax(axis=1), answers.max(axis=1), maps)


def _batches(count: int, size: int) -> Iterator[range]:
    return (range(start, min(start + size, count)) for start in range(0, count, size))
