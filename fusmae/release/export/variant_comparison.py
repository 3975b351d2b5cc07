"""Compares variants with the fp32 graph, on the same pairs and threads, and reports scores, latency and size."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fusmae.data.shards import ShardReader
from fusmae.evaluation.resampling import Difference, paired_differences, why_no_interval
from fusmae.evaluation.scorers import LABELS, LOWER_IS_BETTER, scorer_of
from fusmae.inference.session import Session
from fusmae.release.answers import answers_of_graphs
from fusmae.release.export.variants import Precision
from fusmae.release.latency import times_by_turns
from fusmae.release.markdown import fill
from fusmae.runs.environment import installed_version

_TABLES = Path(__file__).parent / "templates" / "variants.md"


@dataclass(frozen=True)
class Latency:
    """Latency at one batch size."""

    batch_size: int  # number of pairs per run
    median_ms: float  # median time of a run in milliseconds
    ratio: float  # median over rounds of a run's time divided by fp32's in the same round; above 1 is slower
    ratio_low: float  # first quartile of this ratio
    ratio_high: float  # third quartile of this ratio


@dataclass(frozen=True)
class VariantScores:
    """Scores in one modality setting."""

    values: Mapping[str, float]  # the variant's scores that have intervals, by metric
    fp32: Mapping[str, float]  # those of the fp32 graph
    differences: Mapping[str, Difference]  # differences between the two, by metric
    max_abs_error: float  # largest difference from fp32's probabilities, or from its values in standard deviations


@dataclass(frozen=True)
class Variant:
    """One variant's file and its measurements."""

    precision: Precision  # precision of its weights
    sha256: str  # SHA-256 of the file
    size_mb: float  # size of the file in MB
    latencies: Sequence[Latency]  # one per batch size
    scores: Mapping[str, VariantScores]  # by modality setting; empty for fp32 itself
    is_finite: bool  # whether the answers for the darkest and the brightest possible tile are finite

    def faults(self, max_loss: float) -> list[str]:
        """Reasons why the variant is not accepted; empty if it is accepted.

        `max_loss` is the largest distance below fp32 that the interval of a difference may reach, in any setting and
        each metric of which more is better.
        """
        losses = [
            _loss(difference, setting)
            for setting, scores in self.scores.items()
            for metric, difference in scores.differences.items()
            if metric not in LOWER_IS_BETTER and not difference.loses_at_most(max_loss)
        ]
        # The ratio is a median over rounds in which both ran, so that a busy machine slows both. A variant that is as
        # fast as fp32 may fall on either side of 1; to leave it out is no loss.
        slower = [
            f"slower than fp32 at batch {latency.batch_size} ({latency.ratio:.2f} × its time)"
            for latency in self.latencies
            if self.scores and not latency.ratio <= 1
        ]
        overflow = [] if self.is_finite else ["answers overflow on saturated pixels"]
        # With too few places, all settings and metrics give the same reason; it is listed once.
        return [*dict.fromkeys(losses), *overflow, *slower]


def _loss(difference: Difference, setting: str) -> str:
    if difference.low is None:
        return f"the loss is not known: {difference.why_no_interval}"
    return f"{difference.metric} with {setting} may be {-difference.low:.4f} below fp32 ({difference.confidence:.0%})"


def compare_scores(
    session: Session, reference: Session, reader: ShardReader, *, batch_size: int, draws: Mapping[str, Any]
) -> dict[str, VariantScores]:
    """Score a variant beside the fp32 graph, `reference`, on the test pairs; by modality setting, as `s1+s2`.

    `draws` has the places of the pairs, and resamples, confidence and seed of the paired bootstrap over them.
    """
    scorer, scores = scorer_of(reference.require_task(str(reference.path)), np.asarray(reader.labels)), {}
    for setting in reference.settings:
        expected, found = answers_of_graphs([reference, session], reader, setting, batch_size)
        fp32, values = (
            {name: scorer.score(answers.found)[name] for name in scorer.metrics} for answers in (expected, found)
        )
        differences = paired_differences(scorer, found.found, expected.found, **draws)
        scores["+".join(setting)] = VariantScores(values, fp32, differences, found.max_change)
    return scores


def is_finite_at_extremes(session: Session) -> bool:
    """Whether answers for tiles of the lowest and the highest pixels are finite in every modality setting.

    Logits are looked at where a graph gives them: a probability of an infinite logit is finite.
    """
    ends = [
        {
            item.name: np.full((1, len(item.bands), item.side_px, item.side_px), item.unit.limits[end], np.float32)
            for item in session.inputs
        }
        for end in (0, 1)
    ]
    output = "logits" if session.output == "probabilities" else session.output
    runs = [session.run(tiles, setting, outputs=[output]) for tiles in ends for setting in session.settings]
    return all(bool(np.isfinite(found[output]).all()) for found in runs)


def compare_latencies(
    sessions: Sequence[Session], reader: ShardReader, *, batch_sizes: Sequence[int], rounds: int
) -> list[tuple[Latency, ...]]:
    """Latencies by graph, the fp32 graph first, then by batch size; `rounds` runs of each."""
    by_size = []
    for batch_size in batch_sizes:
        read = reader.read([at % len(reader) for at in range(batch_size)])
        times_ms = times_by_turns(sessions, {name: pixels.astype(np.float32) for name, pixels in read.items()}, rounds)
        low, ratio, high = np.percentile(times_ms / times_ms[0], [25, 50, 75], axis=1).tolist()
        medians = np.median(times_ms, axis=1).tolist()
        by_size.append([Latency(batch_size, *row) for row in zip(medians, ratio, low, high, strict=True)])
    return list(zip(*by_size, strict=True))


def as_report(
    variants: Sequence[Variant],
    *,
    num_test_pairs: int,
    num_test_places: int,
    num_threads: int,
    max_loss: float,
    warning: str,
) -> dict[str, Any]:
    """The report for programs, on variants of which fp32 is the first.

    Scores are of the test pairs, latencies with `num_threads` threads; for `num_test_places` see `independent_places`,
    for `max_loss` `Variant.faults`. The warning must stand above all numbers, such as that data are synthetic.
    """
    rows = {}
    for variant in variants:
        faults = variant.faults(max_loss)
        rows[variant.precision] = {**asdict(variant), "is_accepted": not faults, "why_not": faults}
    runtime = {"machine": platform.machine(), "onnxruntime": installed_version("onnxruntime")}
    return {
        "variants": rows,
        "measured_on": {"num_threads": num_threads, **runtime},
        "num_test_pairs": num_test_pairs,
        "num_test_places": num_test_places,
        "max_loss": max_loss,
        "warning": warning,
    }


def as_tables(report: Mapping[str, Any]) -> str:
    """The report for people."""
    scores = [found for variant in report["variants"].values() for found in variant["scores"].values()]
    drawn = next((difference for found in scores for difference in found["differences"].values()), None)
    return fill(_TABLES, **report, drawn=drawn, labels=LABELS, why_no_interval=why_no_interval)
