"""Reports which variants of a graph are offered and why the others are not: JSON for programs, tables for people."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from fusmae.evaluation.paired import Difference
from fusmae.evaluation.resampling import METRICS, why_no_interval
from fusmae.release.export.variant_comparison import Latency, VariantScores
from fusmae.release.export.variant_graphs import Precision


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
        return f"what it loses is not known: {difference.why_no_interval}"
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
