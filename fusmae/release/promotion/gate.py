"""The gate: decides whether a challenger is good enough to be champion, and keeps the result of every check."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from fusmae.config.gate import EncoderThresholds, Thresholds
from fusmae.evaluation.resampling import Difference
from fusmae.release.promotion.model_scores import ModelScores

Status = Literal["passed", "failed", "skipped"]
CLASS = "class "
"""Prefix of the name of a check of one class."""
# Significance level at which a challenger counts as too slow: other work on the machine must not make it fail.
_MAX_CHANCE = 0.01


@dataclass(frozen=True)
class GateCheck:
    """One check of the gate."""

    name: str  # short name of the check
    status: Status  # result of the check; `skipped` if there is nothing to compare with
    got: str  # what was found, in words
    expected: str  # what is required, in words

    @classmethod
    def of(cls, name: str, is_passed: bool | None, got: str, expected: str) -> "GateCheck":
        """A check by its answer; None if there is nothing to compare with."""
        statuses: dict[bool | None, Status] = {True: "passed", False: "failed", None: "skipped"}
        return cls(name, statuses[is_passed], got, expected)


@dataclass(frozen=True)
class Verdict:
    """The decision of the gate."""

    challenger: str  # name and version of the challenger, as `fusmae/4`
    champion: str  # name and version of the champion, as `fusmae/3`; "" if there is none
    checks: tuple[GateCheck, ...]  # all checks with their results
    differences: Mapping[str, Difference]  # differences between the two in the metric, by row; empty without a champion
    facts: Mapping[str, Any]  # facts that the checks are based on: test set, measured models, thresholds, commit

    @property
    def is_passed(self) -> bool:
        """Whether no check failed."""
        return not self.failed

    @property
    def failed(self) -> tuple[GateCheck, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.status == "failed")

    def to_json(self) -> dict[str, Any]:
        """The content of `verdict.json`."""
        return {"is_passed": self.is_passed, **asdict(self)}


def judge(
    challenger: ModelScores,
    champion: ModelScores | None,
    differences: Mapping[str, Difference],
    thresholds: EncoderThresholds,
    facts: Mapping[str, Any],
    *,
    origin: Sequence[GateCheck] = (),
    incomparable: str = "",
) -> Verdict:
    """Run every check on two models that were measured on the same pairs; for differences and facts, see `Verdict`.

    `champion` is None if there is none yet, or if it can't be judged on these pairs; `incomparable` is the reason then.
    `origin` has the results of `check_origin`. Classes and calibration are judged by the `Thresholds` of a finetuned
    model; values have neither.
    """
    num_bad, metric = challenger.answers.num_bad, compared_metric(challenger, thresholds)
    unmeasured = "not measured" if challenger.scores else "not measured: train or test has no labels"
    unknown = unmeasured if champion else "no champion to compare with"
    bad = f"{num_bad} are not, and count as wrong" if num_bad else ""
    checks = [
        *origin,
        GateCheck.of("finite", not bad, bad or "all of them", "every number finite, and every probability from 0 to 1"),
        *(
            _better(row, differences.get(row), metric, thresholds, incomparable or unknown, bool(incomparable))
            for row in challenger.answers.compared
        ),
        *_modalities(challenger, metric, thresholds, unmeasured),
        _at_most("parity", challenger.parity_error, thresholds.max_parity_error, "difference from torch", ".2g"),
        _at_most("latency", challenger.latency_ms, thresholds.max_latency_ms, "ms per pair, median", ".1f"),
        _slower(challenger, champion, thresholds),
        _at_most("size", challenger.size_mb, thresholds.max_size_mb, "MB", ".1f"),
    ]
    if isinstance(thresholds, Thresholds) and challenger.scorer.task.classes:
        checks += [
            *_classes(challenger, thresholds),
            _at_most("calibration", challenger.calibration_error, thresholds.max_calibration_error, "ECE", ".3f"),
        ]
    return Verdict(challenger.label, champion.label if champion else "", tuple(checks), differences, facts)


def compared_metric(model: ModelScores, thresholds: EncoderThresholds) -> str:
    """Name of the score by which models are compared."""
    return model.scorer.metrics[0] if thresholds.metric == "primary" else thresholds.metric


def _protocol(row: str) -> str:
    """The protocol of a row such as `knn s1+s2`; "" for a finetuned model's, such as `s1+s2`."""
    return row.rpartition(" ")[0]


def _better(
    row: str, difference: Difference | None, metric: str, thresholds: EncoderThresholds, why_none: str, is_failure: bool
) -> GateCheck:
    """Whether a row loses little enough; `why_none` says why there is no difference, which may be a failure."""
    name = f"metric {_protocol(row)}".strip()
    expected = f"{metric} not more than {thresholds.max_loss:g} below the champion's, interval included"
    if difference is None:
        return GateCheck.of(name, False if is_failure else None, why_none, expected)
    if difference.low is None:
        got = f"{difference.difference:+.3f}, but {difference.why_no_interval}"
    else:
        got = (
            f"{difference.difference:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}] "
            f"({difference.confidence:.0%}, {difference.resamples} paired draws of {difference.num_places} places)"
        )
    return GateCheck.of(name, difference.loses_at_most(thresholds.max_loss), got, expected)


def _modalities(
    challenger: ModelScores, metric: str, thresholds: EncoderThresholds, unmeasured: str
) -> Iterator[GateCheck]:
    """A floor per modality setting; of an encoder, for each protocol."""
    for setting, floor in thresholds.min_by_setting.items():
        for compared in challenger.answers.compared:
            row = f"{_protocol(compared)} {setting}".strip()
            found = challenger.scores.get(row)
            yield _at_least(f"modalities {row}", None if found is None else found[metric], floor, metric, unmeasured)


def _classes(challenger: ModelScores, thresholds: Thresholds) -> Iterator[GateCheck]:
    fewest = thresholds.min_class_pairs
    for name, count in challenger.class_pairs.items():
        floor = thresholds.class_floors.get(name, thresholds.min_class_score)
        if count < fewest:
            yield GateCheck.of(f"{CLASS}{name}", None, f"{count} test pairs", f"{fewest} pairs to judge by")
        else:
            yield _at_least(f"{CLASS}{name}", challenger.per_class[name], floor, challenger.scorer.class_metric)
    for name in sorted(set(thresholds.class_floors) - set(challenger.class_pairs)):
        expected = "a class of the test set in gate.class_floors"
        yield GateCheck.of(f"{CLASS}{name}", False, "no class of that name", expected)


def _slower(challenger: ModelScores, champion: ModelScores | None, thresholds: EncoderThresholds) -> GateCheck:
    expected = f"at most {thresholds.max_latency_ratio:g} × the champion's, measured by turns"
    if champion is None:
        return GateCheck.of("latency ratio", None, "no champion to compare with", expected)
    from scipy.stats import quantile_test

    ratios = np.divide(challenger.times_ms, champion.times_ms)
    low, ratio, high = np.percentile(ratios, [25, 50, 75])
    got = f"{ratio:.2f} × (half of the rounds from {low:.2f} to {high:.2f})"
    limit, is_passed = thresholds.max_latency_ratio, bool(ratio <= thresholds.max_latency_ratio)
    if not is_passed and quantile_test(ratios, q=limit, p=0.5, alternative="greater").pvalue > _MAX_CHANCE:
        return GateCheck.of("latency ratio", None, f"{got}: the times vary too much on this machine now", expected)
    return GateCheck.of("latency ratio", is_passed, got, expected)


def _at_least(name: str, value: float | None, floor: float, what: str, unknown: str = "not measured") -> GateCheck:
    got = unknown if value is None else f"{value:.3f}"
    return GateCheck.of(name, value is not None and value >= floor, got, f"{what} of at least {floor:g}")


def _at_most(name: str, value: float | None, limit: float, what: str, digits: str) -> GateCheck:
    got = "not measured" if value is None else f"{value:{digits}}"
    # NaN fails: it is not less than or equal to any limit.
    return GateCheck.of(name, value is not None and value <= limit, got, f"{what} of at most {limit:g}")
