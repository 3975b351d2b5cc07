"""Each question of the gate, by itself."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fusmae.config import load_config
from fusmae.evaluation.metrics import score
from fusmae.evaluation.paired import paired_differences
from fusmae.release.gate import Check, judge
from fusmae.release.trial import Trial, calibration_error
from fusmae.release.verdict_report import as_text, write_verdict

ROOT = Path(__file__).parents[2]
CLASSES = ("water", "forest")
RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 2, (80, 2))
GOOD = np.clip(LABELS * 0.4 + RANDOM.random((80, 2)) * 0.6, 0, 1)
POOR = RANDOM.random((80, 2))


@pytest.fixture(scope="module")
def thresholds():
    found = load_config(ROOT / "params.yaml").gate
    return found.model_copy(update={"min_by_setting": {"s1+s2": 0.8, "s1": 0.5}, "class_floors": {}})


def trial(probabilities=GOOD, **changes):
    scores = score(LABELS, probabilities, CLASSES, 0.5, 0, 0)
    made = Trial(
        label="m/2",
        sha256="",
        commit="c0ffee",
        is_dirty=False,
        probabilities={},
        num_bad=0,
        scores={"s1+s2": scores, "s1": scores},
        every_modality="s1+s2",
        class_pairs={"water": 40, "forest": 40},
        calibration_error=0.1,
        latency_ms=10.0,
        size_mb=5.0,
        parity_error=1e-6,
    )
    return replace(made, **changes)


def failed(challenger, thresholds, champion=None, difference=None):
    facts = {"num_pairs": 80}
    return [check.name for check in judge(challenger, champion, difference, thresholds, facts).failed]


def difference(challenger, champion, **changes):
    settings = {"resamples": 200, "confidence": 0.95, "seed": 0} | changes
    return paired_differences(challenger, champion, LABELS, **settings)["micro_ap"]


def test_a_good_challenger_without_a_champion_passes(thresholds):
    verdict = judge(trial(), None, None, thresholds, {"num_pairs": 80})
    assert verdict.is_passed
    assert {check.name for check in verdict.checks if check.status == "skipped"} == {"metric", "latency ratio"}


@pytest.mark.parametrize(
    ("changes", "question"),
    [
        ({"num_bad": 1}, "finite"),
        ({"calibration_error": 0.26}, "calibration"),
        ({"calibration_error": float("nan")}, "calibration"),
        ({"latency_ms": 1000.1}, "latency"),
        ({"size_mb": 2000.1}, "size"),
        ({"parity_error": 2e-4}, "parity"),
        ({"parity_error": None}, "parity"),
    ],
)
def test_each_budget_alone_fails_the_challenger(changes, question, thresholds):
    assert failed(trial(**changes), thresholds) == [question]


def test_each_modality_setting_has_its_floor_and_must_be_measured(thresholds):
    poor = score(LABELS, POOR, CLASSES, 0.5, 0, 0)
    good = trial().scores["s1"]
    harder = thresholds.model_copy(update={"min_by_setting": {"s1+s2": 0.8, "s1": 0.8}})
    assert failed(trial(scores={"s1+s2": good, "s1": poor}), harder) == ["modalities s1"]
    assert failed(trial(scores={"s1+s2": good}), harder) == ["modalities s1"]


def test_each_class_has_a_floor_its_own_or_the_common_one(thresholds):
    assert failed(trial(), thresholds.model_copy(update={"class_floors": {"forest": 1.0}})) == ["class forest"]
    poor = trial(scores={"s1+s2": score(LABELS, POOR, CLASSES, 0.5, 0, 0)})
    floors = {"min_class_ap": 0.9, "class_floors": {"water": 0.1}, "min_by_setting": {}}
    assert failed(poor, thresholds.model_copy(update=floors)) == ["class forest"]


def test_a_floor_of_a_class_that_is_none_fails(thresholds):
    assert failed(trial(), thresholds.model_copy(update={"class_floors": {"watre": 0.1}})) == ["class watre"]


def test_the_interval_over_places_is_wider_where_pairs_of_a_place_are_alike():
    # Ten places of eight like pairs, on half of which the one model is right and on half the other.
    places = [f"{number // 8}" for number in range(80)]
    swaps = np.array([number // 8 % 2 for number in range(80)], bool)[:, None]
    one, other = np.where(swaps, GOOD, POOR), np.where(swaps, POOR, GOOD)
    pairs, whole = difference(one, other), difference(one, other, places=places)
    assert (pairs.num_drawn, whole.num_drawn) == (80, 10)
    assert pairs.difference == whole.difference
    assert whole.high - whole.low > 1.2 * (pairs.high - pairs.low)


def test_a_draw_of_pairs_without_labels_does_not_end_the_bootstrap():
    labels = np.zeros((6, 2), int)
    labels[0] = 1
    scores = np.random.default_rng(3).random((2, 6, 2))
    found = paired_differences(*scores, labels, resamples=50, confidence=0.9, seed=0)["macro_ap"]
    assert found.low <= found.high


def test_a_class_with_few_pairs_is_not_judged(thresholds):
    few = trial(class_pairs={"water": 40, "forest": 3})
    strict = thresholds.model_copy(update={"class_floors": {"forest": 1.0}})
    verdict = judge(few, None, None, strict, {"num_pairs": 80})
    assert verdict.is_passed
    assert next(check for check in verdict.checks if check.name == "class forest").status == "skipped"


def test_a_loss_that_the_interval_cannot_rule_out_fails(thresholds):
    champion = trial(label="m/1")
    for probabilities, is_good in ((GOOD, True), (POOR, False)):
        found = failed(trial(), thresholds, champion, difference(probabilities, GOOD))
        assert found == ([] if is_good else ["metric"])


def test_a_slower_challenger_fails_by_the_ratio(thresholds):
    champion = trial(label="m/1", latency_ms=5.0)
    assert failed(trial(latency_ms=7.6), thresholds, champion, difference(GOOD, GOOD)) == ["latency ratio"]


def test_the_difference_is_paired_so_models_that_agree_differ_by_little():
    slightly = GOOD.copy()
    slightly[0] = 1 - slightly[0]
    paired = difference(slightly, GOOD)
    assert paired.low <= paired.difference <= paired.high <= 0
    worse = difference(POOR, GOOD)
    assert paired.high - paired.low < worse.high - worse.low
    assert worse.high < 0


def test_the_difference_is_the_same_each_time_and_wider_with_more_confidence():
    assert difference(POOR, GOOD) == difference(POOR, GOOD)
    sure, surer = difference(POOR, GOOD, confidence=0.8), difference(POOR, GOOD, confidence=0.99)
    assert surer.low < sure.low < sure.high < surer.high


def test_calibration_error_is_none_for_true_chances_and_large_for_false_confidence():
    random = np.random.default_rng(1)
    chances = random.random((20_000, 2))
    labels = (random.random((20_000, 2)) < chances).astype(int)
    assert calibration_error(labels, chances) < 0.02
    assert calibration_error(labels, np.round(chances)) > 0.2
    assert calibration_error(np.ones((4, 2)), np.full((4, 2), 0.7)) == pytest.approx(0.3, abs=1e-6)


def test_the_report_says_what_failed_and_warns_of_synthetic_data(tmp_path, thresholds):
    found = trial(is_dirty=True, label="m<2>")
    facts = {"data": "made up", "test_set": "", "commit": "c0ffee", "when": "", "thresholds": {"max_loss": 0.02}}
    origin = [Check("source", "failed", "made from a checkout with uncommitted changes", "a commit")]
    facts |= {"num_pairs": 80, "trials": [found.to_json()]}
    verdict = judge(found, None, None, thresholds, facts, origin=origin)
    write_verdict(tmp_path, verdict, "SYNTHETIC data")
    html = (tmp_path / "verdict.html").read_text(encoding="utf-8")
    assert "It must not become champion." in html
    assert "m&lt;2&gt;" in html
    assert '<p class="synthetic">SYNTHETIC data</p>' in html
    assert html.index("uncommitted changes") < html.index("no champion to compare with")
    assert "<td>AP, water</td>" in html
    assert "max_loss 0.02" in html
    text = as_text(verdict).splitlines()
    assert text[0] == "gate: m<2> FAILS (no champion yet)"
    assert text[1].startswith("  source: made from a checkout with uncommitted changes; asked for:")
