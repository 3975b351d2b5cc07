"""Compares variants with the fp32 graph, on the same pairs and threads, and reports scores, latency and size."""

import platform
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.data.shards import ShardReader
from fusmae.evaluation.metrics import average_precisions
from fusmae.evaluation.paired import Difference, paired_differences
from fusmae.evaluation.resampling import METRICS, why_no_interval
from fusmae.inference.session import Session
from fusmae.release.export.variants import Precision, settings_of
from fusmae.release.latency import times_by_turns


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
    """Whether the logits of tiles of the lowest and the highest pixels are finite in every modality setting."""
    for end in (0, 1):
        tiles = {
            item.name: np.full((1, len(item.bands), item.side_px, item.side_px), item.unit.limits[end], np.float32)
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


@dataclass(frozen=True)
class Variant:
    """One variant's file and its measurements.

    Attributes:
        precision: precision of its weights.
        sha256: SHA-256 of the file.
        size_mb: size of the file in MB.
        latencies: latencies, one per batch size.
        scores: scores by modality setting; empty for fp32 itself.
        is_finite: whether the logits of the darkest and of the brightest possible tile are finite.
    """

    precision: Precision
    sha256: str
    size_mb: float
    latencies: Sequence[Latency]
    scores: Mapping[str, VariantScores]
    is_finite: bool

    def faults(self, max_ap_loss: float) -> list[str]:
        """Reasons why the variant is not offered; empty if it is offered.

        Args:
            max_ap_loss: largest distance below fp32 that the interval of a difference may reach, in any setting and
                either metric.
        """
        # With too few places, all settings and metrics give the same reason; it is listed once.
        losses = [
            _loss(difference, setting)
            for setting, scores in self.scores.items()
            for difference in scores.differences.values()
            if not difference.loses_at_most(max_ap_loss)
        ]
        faults = list(dict.fromkeys(losses))
        if not self.is_finite:
            faults.append("logits overflow on saturated pixels")
        # The ratio is a median over rounds in which both ran, so that a busy machine slows both. A variant that is as
        # fast as fp32 may fall on either side of 1; to leave it out is no loss.
        faults += [
            f"slower than fp32 at batch {latency.batch_size} ({latency.ratio:.2f} × its time)"
            for latency in self.latencies
            if self.scores and not latency.ratio <= 1
        ]
        return faults


def _loss(difference: Difference, setting: str) -> str:
    if difference.low is None:
        return f"the loss is not known: {difference.why_no_interval}"
    return f"{difference.metric} with {setting} may be {-difference.low:.4f} below fp32 ({difference.confidence:.0%})"


def as_report(
    variants: Sequence[Variant],
    *,
    num_test_pairs: int,
    num_test_places: int,
    num_threads: int,
    max_ap_loss: float,
    warning: str,
) -> dict[str, Any]:
    """The report for programs.

    Args:
        variants: measured variants, fp32 first.
        num_test_pairs: number of test pairs that the scores are computed from.
        num_test_places: number of places of these pairs, see `independent_places`.
        num_threads: number of threads with which latencies were measured.
        max_ap_loss: see `Variant.faults`.
        warning: text that must stand above all numbers, such as that data are synthetic; "" for none.
    """
    rows = {
        variant.precision: {
            **asdict(variant),
            "is_offered": not (faults := variant.faults(max_ap_loss)),
            "why_not": faults,
        }
        for variant in variants
    }
    machine = {"num_threads": num_threads, "machine": platform.machine(), "onnxruntime": version("onnxruntime")}
    facts = {
        "num_test_pairs": num_test_pairs,
        "num_test_places": num_test_places,
        "max_ap_loss": max_ap_loss,
        "warning": warning,
    }
    return {"variants": rows, "measured_on": machine, **facts}


def as_tables(report: Mapping[str, Any]) -> str:
    """The report for people."""
    variants = report["variants"]
    batch_sizes = [latency["batch_size"] for latency in variants["fp32"]["latencies"]]
    lines = [
        *([f"**{report['warning']}**", ""] if report["warning"] else []),
        "| variant | offered | MB | " + " | ".join(f"ms at batch {size} | × fp32" for size in batch_sizes) + " |",
        "|---|---|---|" + "---|---|" * len(batch_sizes),
        *(_latency_row(precision, variant) for precision, variant in variants.items()),
        "",
        *(f"Not offered, {name}: {'; '.join(row['why_not'])}." for name, row in variants.items() if row["why_not"]),
        "",
        "| variant | modalities | micro AP | − fp32 | macro AP | − fp32 | largest change of a probability |",
        "|---|---|---|---|---|---|---|",
    ]
    for precision, variant in variants.items():
        lines += [_score_row(precision, setting, scores) for setting, scores in variant["scores"].items()]
    measured = report["measured_on"]
    lines += [
        "",
        f"Times: medians of runs by turns on {measured['num_threads']} threads ({measured['machine']}, onnxruntime "
        f"{measured['onnxruntime']}); in brackets the middle half of the rounds. They are this machine's.",
        f"Scores: {report['num_test_pairs']} test pairs of {report['num_test_places']} places; {_intervals(report)}. "
        f"Offered is what loses no more than {report['max_ap_loss']:g}, interval included, and is slower (× fp32 above "
        "1) at no batch size.",
    ]
    return "\n".join(lines) + "\n"


def _intervals(report: Mapping[str, Any]) -> str:
    found = next(
        (
            difference
            for variant in report["variants"].values()
            for scores in variant["scores"].values()
            for difference in scores["differences"].values()
        ),
        None,
    )
    if found is None:
        return "no variant was scored"
    if found["low"] is None:
        return f"no intervals: {why_no_interval(found['num_places'], found['confidence'])}"
    return (
        f"in brackets the {found['confidence']:.0%} interval of {found['resamples']} paired draws of "
        f"{found['num_places']} places"
    )


def _latency_row(precision: str, variant: Mapping[str, Any]) -> str:
    cells = [precision, "yes" if variant["is_offered"] else "**no**", f"{variant['size_mb']:.2f}"]
    for found in variant["latencies"]:
        ratio = f"{found['ratio']:.2f} [{found['ratio_low']:.2f}, {found['ratio_high']:.2f}]"
        cells += [f"{found['median_ms']:.2f}", ratio]
    return "| " + " | ".join(cells) + " |"


def _score_row(precision: str, setting: str, scores: Mapping[str, Any]) -> str:
    cells = [precision, setting]
    for metric in METRICS:
        found = scores["differences"][metric]
        interval = "" if found["low"] is None else f" [{found['low']:+.4f}, {found['high']:+.4f}]"
        cells += [f"{scores['values'][metric]:.4f}", f"{found['difference']:+.4f}{interval}"]
    return "| " + " | ".join([*cells, f"{scores['max_abs_error']:.2g}"]) + " |"
