"""The gate: is a challenger good enough to be champion? It asks every question and keeps every answer."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from fusmae.evaluation.metrics import Scores
from fusmae.evaluation.paired import Difference, paired_differences
from fusmae.release.trial import Trial
from fusmae.thresholds import Thresholds

Status = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Check:
    """One question of the gate.

    Attributes:
        name: short.
        status: skipped where there is nothing to compare with.
        got: what was found, in words.
        expected: what was asked for, in words.
    """

    name: str
    status: Status
    got: str
    expected: str


@dataclass(frozen=True)
class Verdict:
    """What the gate says.

    Attributes:
        challenger: `fusmae/4`.
        champion: `fusmae/3`; "" where there is none.
        checks: every question, with its reason.
        difference: of the primary metric; None without a champion.
        facts: test set, trials, thresholds, commit: what the checks rest on.
    """

    challenger: str
    champion: str
    checks: tuple[Check, ...]
    difference: Difference | None
    facts: Mapping[str, Any]

    @property
    def is_passed(self) -> bool:
        """No check failed."""
        return not self.failed

    @property
    def failed(self) -> tuple[Check, ...]:
        """Why not."""
        return tuple(check for check in self.checks if check.status == "failed")

    def to_json(self) -> dict[str, Any]:
        """For `verdict.json`."""
        return {"is_passed": self.is_passed, **asdict(self)}


def judge(
    challenger: Trial,
    champion: Trial | None,
    difference: Difference | None,
    thresholds: Thresholds,
    facts: Mapping[str, Any],
) -> Verdict:
    """Ask every question.

    Args:
        challenger: how the challenger did.
        champion: how the champion did on the same pairs; None where there is none yet.
        difference: of the primary metric between them.
        thresholds: what is asked for.
        facts: goes into the verdict.
    """
    checks = (
        _clean(challenger),
        _better(difference, thresholds),
        *_settings(challenger, thresholds),
        *_classes(challenger, thresholds),
        _at_most("parity", challenger.parity_error, thresholds.max_parity_error, "difference from torch", ".2g"),
        _at_most("calibration", challenger.calibration_error, thresholds.max_calibration_error, "ECE", ".3f"),
        _at_most("latency", challenger.latency_ms, thresholds.max_latency_ms, "ms a pair, median", ".1f"),
        _slower(challenger, champion, thresholds),
        _at_most("size", challenger.size_mb, thresholds.max_size_mb, "MB", ".1f"),
    )
    return Verdict(challenger.label, champion.label if champion else "", checks, difference, facts)


def paired_difference(
    metric: str,
    challenger: NDArray[Any],
    champion: NDArray[Any],
    labels: NDArray[Any],
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> Difference:
    """Challenger minus champion, with a percentile bootstrap over pairs: both are scored on the same draws.

    Args:
        metric: micro_ap or macro_ap.
        challenger: probabilities `[N, K]`.
        champion: probabilities `[N, K]` on the same pairs.
        labels: `[N, K]` 0 or 1.
        resamples: draws.
        confidence: of the interval.
        seed: of the draws.
    """
    found = paired_differences(challenger, champion, labels, resamples=resamples, confidence=confidence, seed=seed)
    return found[metric]


def _clean(challenger: Trial) -> Check:
    return Check(
        "source",
        "failed" if challenger.is_dirty else "passed",
        "made from a checkout with uncommitted changes" if challenger.is_dirty else f"commit {challenger.commit[:12]}",
        "a commit that says what made it",
    )


def _better(difference: Difference | None, thresholds: Thresholds) -> Check:
    expected = f"{thresholds.metric} not more than {thresholds.max_loss:g} below the champion's, interval included"
    if difference is None:
        return Check("metric", "skipped", "no champion to compare with", expected)
    got = (
        f"{difference.difference:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}] "
        f"({difference.confidence:.0%}, {difference.resamples} paired draws)"
    )
    return Check("metric", "passed" if difference.low >= -thresholds.max_loss else "failed", got, expected)


def _settings(challenger: Trial, thresholds: Thresholds) -> Sequence[Check]:
    checks = []
    for setting, floor in thresholds.min_by_setting.items():
        scores = challenger.scores.get(setting)
        value = getattr(scores, thresholds.metric) if scores else None
        checks.append(_at_least(f"modalities {setting}", value, floor, thresholds.metric))
    return checks


def _classes(challenger: Trial, thresholds: Thresholds) -> Sequence[Check]:
    scores: Scores = challenger.scores[challenger.every_modality]
    checks = []
    for name, count in challenger.class_pairs.items():
        floor = thresholds.class_floors.get(name, thresholds.min_class_ap)
        if count < thresholds.min_class_pairs:
            few = f"{count} test pairs"
            checks.append(Check(f"class {name}", "skipped", few, f"{thresholds.min_class_pairs} pairs to judge by"))
        else:
            checks.append(_at_least(f"class {name}", scores.per_class_ap[name], floor, "AP"))
    return checks


def _slower(challenger: Trial, champion: Trial | None, thresholds: Thresholds) -> Check:
    expected = f"at most {thresholds.max_latency_ratio:g} × the champion's, measured by turns"
    if champion is None:
        return Check("latency ratio", "skipped", "no champion to compare with", expected)
    ratio = challenger.latency_ms / champion.latency_ms
    status: Status = "passed" if ratio <= thresholds.max_latency_ratio else "failed"
    return Check("latency ratio", status, f"{ratio:.2f} ×", expected)


def _at_least(name: str, value: float | None, floor: float, what: str) -> Check:
    got = "not measured" if value is None else f"{value:.3f}"
    passed = value is not None and value >= floor
    return Check(name, "passed" if passed else "failed", got, f"{what} of at least {floor:g}")


def _at_most(name: str, value: float | None, limit: float, what: str, digits: str) -> Check:
    # A value that is not a number fails: it is not at most anything.
    passed = value is not None and value <= limit
    got = "not measured" if value is None else f"{value:{digits}}"
    return Check(name, "passed" if passed else "failed", got, f"{what} of at most {limit:g}")
