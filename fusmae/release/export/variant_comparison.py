"""Compares a variant's scores and latency with the fp32 graph's: on the same pairs and threads, in turns."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.data.shards import ShardReader
from fusmae.evaluation.metrics import average_precisions
from fusmae.evaluation.paired import Difference, paired_differences
from fusmae.evaluation.resampling import METRICS
from fusmae.inference.session import Session
from fusmae.release.latency import times_by_turns

# Limits that no scene exceeds: DN has 16 bits; S1 lies between -50 and 30 dB.
_EXTREMES = {"DN": (0.0, 65535.0), "dB": (-60.0, 60.0)}


@dataclass(frozen=True)
class Latency:
    """Latency at one batch size.

    Attributes:
        batch_size: number of pairs per run.
        median_ms: median time of a run in milliseconds.
        ratio: median over rounds of a run's time divided by fp32's in the same round; above 1 is slower.
        ratio_low: first quartile of this ratio.
        ratio_high: third quartile of this ratio.
    """

    batch_size: int
    median_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float


@dataclass(frozen=True)
class VariantScores:
    """Scores in one modality setting.

    Attributes:
        values: the variant's micro_ap and macro_ap.
        fp32: micro_ap and macro_ap of the fp32 graph.
        differences: differences between the two, by metric.
        max_abs_error: largest difference from fp32's probabilities.
    """

    values: Mapping[str, float]
    fp32: Mapping[str, float]
    differences: Mapping[str, Difference]
    max_abs_error: float


def settings_of(session: Session) -> list[tuple[str, ...]]:
    """Every combination of modalities that a graph accepts, the one with all of them first."""
    known = tuple(session.metadata["modalities"])
    return [chosen for size in range(len(known), 0, -1) for chosen in combinations(known, size)]


def compare_scores(
    session: Session, reference: Session, reader: ShardReader, *, batch_size: int, draws: Mapping[str, Any]
) -> dict[str, VariantScores]:
    """Score a variant beside fp32 in every modality setting.

    Args:
        session: session of the variant.
        reference: session of the fp32 graph.
        reader: reader of the test pairs.
        batch_size: number of pairs per run.
        draws: places of the pairs; resamples, confidence and seed of the paired bootstrap over them.

    Returns:
        Scores by setting, as `s1+s2`.
    """
    labels = np.asarray(reader.labels)
    scores = {}
    for setting in settings_of(reference):
        found, expected = (_probabilities(one, reader, setting, batch_size) for one in (session, reference))
        scores["+".join(setting)] = VariantScores(
            _by_metric(labels, found),
            _by_metric(labels, expected),
            paired_differences(found, expected, labels, **draws),
            float(np.max(np.abs(found - expected))),
        )
    return scores


def _by_metric(labels: NDArray[Any], probabilities: NDArray[Any]) -> dict[str, float]:
    return dict(zip(METRICS, average_precisions(labels, probabilities), strict=True))


def is_finite_at_extremes(session: Session) -> bool:
    """Whether the logits of the darkest and of the brightest possible tile are finite in every modality setting."""
    for end in (0, 1):
        tiles = {
            item.name: np.full((1, len(item.bands), item.side_px, item.side_px), _EXTREMES[item.units][end], np.float32)
            for item in session.inputs
        }
        if not all(np.isfinite(session.run(tiles, setting)["logits"]).all() for setting in settings_of(session)):
            return False
    return True


def compare_latencies(
    sessions: Sequence[Session], reader: ShardReader, *, batch_sizes: Sequence[int], rounds: int
) -> list[list[Latency]]:
    """Run graphs in turns, so that a busy machine slows all alike.

    Args:
        sessions: sessions of the graphs, the fp32 graph first.
        reader: reader of the pairs that are run.
        batch_sizes: numbers of pairs per run.
        rounds: number of runs per session and batch size.

    Returns:
        Latencies by session, then by batch size.
    """
    found: list[list[Latency]] = [[] for _ in sessions]
    for batch_size in batch_sizes:
        taken = times_by_turns(sessions, _batch(reader, [at % len(reader) for at in range(batch_size)]), rounds)
        for latencies, times in zip(found, taken, strict=True):
            low, ratio, high = np.percentile(times / taken[0], [25, 50, 75])
            latencies.append(Latency(batch_size, statistics.median(times), float(ratio), float(low), float(high)))
    return found


def _probabilities(
    session: Session, reader: ShardReader, setting: Sequence[str], batch_size: int
) -> NDArray[np.float32]:
    return np.concatenate([session.run(pixels, setting)["probabilities"] for pixels in _batches(reader, batch_size)])


def _batches(reader: ShardReader, batch_size: int) -> Iterator[dict[str, NDArray[np.float32]]]:
    for start in range(0, len(reader), batch_size):
        yield _batch(reader, range(start, min(start + batch_size, len(reader))))


def _batch(reader: ShardReader, indices: Sequence[int]) -> dict[str, NDArray[np.float32]]:
    return {name: array.astype(np.float32) for name, array in reader.read(indices).pixels.items()}
