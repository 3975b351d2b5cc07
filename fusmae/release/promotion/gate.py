"""The gate: is a challenger good enough to be champion? It asks every question and keeps every answer."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from fusmae.config.gate import Thresholds
from fusmae.evaluation.metrics import Scores
from fusmae.evaluation.paired import Difference
from fusmae.release.promotion.model_scores import Trial

Status = Literal["passed", "failed", "skipped"]
CLASS = "class "
"""What the name of a check of one class begins with."""


# A challenger is called too slow where chance makes its median ratio look as bad this rarely: other work on the machine
# is no fault of its own.
_MAX_CHANCE = 0.01


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
    *,
    origin: Sequence[Check] = (),
    incomparable: str = "",
) -> Verdict:
    """Ask every question.

    Args:
        challenger: how the challenger did.
        champion: how the champion did on the same pairs; None where there is none yet.
        difference: of the primary metric between them.
        thresholds: what is asked for.
        facts: goes into the verdict.
        origin: whether the commit names what made the challenger, and it was trained for this test set.
        incomparable: why a champion that there is can't be judged on these pairs; then `champion` is None.
    """
    checks = (
        *origin,
        _finite(challenger),
        _better(difference, thresholds, incomparable),
        *_settings(challenger, thresholds),
        *_classes(challenger, thresholds),
        _at_most("parity", challenger.parity_error, thresholds.max_parity_error, "difference from torch", ".2g"),
        _at_most("calibration", challenger.calibration_error, thresholds.max_calibration_error, "ECE", ".3f"),
        _at_most("latency", challenger.latency_ms, thresholds.max_latency_ms, "ms a pair, median", ".1f"),
        _slower(challenger, champion, thresholds),
        _at_most("size", challenger.size_mb, thresholds.max_size_mb, "MB", ".1f"),
    )
    return Verdict(challenger.label, champion.label if champion else "", checks, difference, facts)


def _finite(challenger: Trial) -> Check:
    got = f"{challenger.num_bad} that are not, counted as wrong" if challenger.num_bad else "all of them"
    return Check("finite", "failed" if challenger.num_bad else "passed", got, "every probability a number from 0 to 1")


def _better(difference: Difference | None, thresholds: Thresholds, incomparable: str) -> Check:
    expected = f"{thresholds.metric} not more than {thresholds.max_loss:g} below the champion's, interval included"
    if incomparable:
        return Check("metric", "failed", incomparable, expected)
    if difference is None:
        return Check("metric", "skipped", "no champion to compare with", expected)
    if difference.low is None:
        got = f"{difference.difference:+.3f}, but {difference.why_no_interval}"
    else:
        got = (
            f"{difference.difference:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}] "
            f"({difference.confidence:.0%}, {difference.resamples} paired draws of {difference.num_places} places)"
        )
    return Check("metric", "passed" if difference.loses_at_most(thresholds.max_loss) else "failed", got, expected)


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
            checks.append(Check(f"{CLASS}{name}", "skipped", few, f"{thresholds.min_class_pairs} pairs to judge by"))
        else:
            checks.append(_at_least(f"{CLASS}{name}", scores.per_class_ap[name], floor, "AP"))
    unknown = sorted(set(thresholds.class_floors) - set(challenger.class_pairs))
    known = "a class of the test set in gate.class_floors"
    return [*checks, *(Check(f"{CLASS}{name}", "failed", "no class of that name", known) for name in unknown)]


def _slower(challenger: Trial, champion: Trial | None, thresholds: Thresholds) -> Check:
    expected = f"at most {thresholds.max_latency_ratio:g} × the champion's, measured by turns"
    if champion is None:
        return Check("latency ratio", "skipped", "no champion to compare with", expected)
    from scipy.stats import quantile_test

    ratios = np.divide(challenger.times_ms, champion.times_ms)
    low, ratio, high = np.percentile(ratios, [25, 50, 75])
    got = f"{ratio:.2f} × (half of the rounds from {low:.2f} to {high:.2f})"
    if ratio <= thresholds.max_latency_ratio:
        return Check("latency ratio", "passed", got, expected)
    tested = quantile_test(ratios, q=thresholds.max_latency_ratio, p=0.5, alternative="greater")
    if tested.pvalue > _MAX_CHANCE:
        got += ": too unsteady on this machine now to tell"
        return Check("latency ratio", "skipped", got, expected)
    return Check("latency ratio", "failed", got, expected)


def _at_least(name: str, value: float | None, floor: float, what: str) -> Check:
    got = "not measured" if value is None else f"{value:.3f}"
    passed = value is not None and value >= floor
    return Check(name, "passed" if passed else "failed", got, f"{what} of at least {floor:g}")


def _at_most(name: str, value: float | None, limit: float, what: str, digits: str) -> Check:
    # A value that is not a number fails: it is not at most anything.
    passed = value is not None and value <= limit
    got = "not measured" if value is None else f"{value:{digits}}"
    return Check(name, "passed" if passed else "failed", got, f"{what} of at most {limit:g}")
