"""The gate on models of every kind of labels."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fusmae.config.params import load_config
from fusmae.config.task import Task
from fusmae.errors import PromotionError
from fusmae.evaluation.map_counts import NUM_BINS, count_map
from fusmae.evaluation.resampling import paired_differences
from fusmae.evaluation.scorers import scorer_of
from fusmae.release.promotion.gate import compared_metric, judge
from fusmae.release.promotion.model_scores import Answers, ModelScores, calibration_error, require_same
from fusmae.reports.verdict import as_text, write_verdict
from tests.kinds import BIOMASS, CLASSES, TASKS

ROOT = Path(__file__).parents[3]
NUM_PAIRS = 60
KINDS = ("multiclass", "segmentation", "tile value", "pixel value")
CLASSED = ("multiclass", "segmentation")


def found_by(name, noise):
    """The labels of some pairs, and what a scorer takes of answers that are wrong in a share `noise`."""
    random = np.random.default_rng(0)
    task, truth = TASKS[name], random.integers(0, 2, (NUM_PAIRS, 8, 8)).astype(np.uint8)
    is_wrong = random.random(truth.shape) < noise
    answers = np.where(is_wrong, 1 - truth, truth)
    if name == "multiclass":
        return np.eye(3)[truth[:, 0, 0]], np.eye(3)[answers[:, 0, 0]] * 0.7 + 0.1
    if name == "segmentation":
        return np.eye(3)[truth[:, 0, 0]], count_map(task, answers, np.full(truth.shape, 0.9), truth)
    values, guesses = truth * 100.0, truth * 100.0 + is_wrong * 150.0
    if name == "tile value":
        return values[:, 0, :1], guesses[:, 0, :1]
    return values.mean(axis=(1, 2))[:, None], count_map(task, guesses, None, values)


def scores_of(name, noise=0.05, without=None, **changes):
    """Measurements of a model that is wrong in a share `noise`; `without` is that share without `s2`."""
    labels, found = found_by(name, noise)
    rows = {"s1+s2": found, "s1": found if without is None else found_by(name, without)[1]}
    scorer, task = scorer_of(TASKS[name], labels), TASKS[name]
    made = ModelScores(
        label="m/2",
        sha256="",
        commit="c0ffee",
        is_dirty=False,
        answers=Answers(rows, ("s1+s2",), 0),
        scorer=scorer,
        scores={row: scorer.score(of) for row, of in rows.items()},
        class_pairs=dict(zip(task.classes, labels.sum(axis=0).astype(int).tolist(), strict=True))
        if task.classes
        else {},
        calibration_error=calibration_error(scorer, found) if task.classes else None,
        times_ms=(10.0,) * 30,
        size_mb=5.0,
        parity_error=1e-6,
    )
    return replace(made, **changes)


@pytest.fixture(scope="module")
def thresholds():
    found = load_config(ROOT / "params.yaml").gate
    easy = {"min_by_setting": {"s1+s2": 0.5, "s1": 0.5}, "min_class_score": 0.3, "min_class_pairs": 5}
    return found.model_copy(update=easy | {"class_floors": {}, "max_calibration_error": 0.35})


def verdict_on(challenger, thresholds, champion=None, facts=None):
    differences = {}
    if champion is not None:
        settings = {"places": [f"{number}" for number in range(NUM_PAIRS)], "resamples": 50}
        one, other = (model.answers.found["s1+s2"] for model in (challenger, champion))
        found = paired_differences(challenger.scorer, one, other, **settings, confidence=0.95, seed=0)
        differences = {"s1+s2": found[compared_metric(challenger, thresholds)]}
    return judge(
        challenger, champion, differences, thresholds, {"num_pairs": NUM_PAIRS, "num_places": NUM_PAIRS} | (facts or {})
    )


@pytest.mark.parametrize("name", KINDS)
def test_a_good_challenger_passes_and_is_judged_by_what_its_kind_has(name, thresholds):
    verdict = verdict_on(scores_of(name), thresholds)
    assert [check.name for check in verdict.failed] == []
    names = {check.name for check in verdict.checks}
    assert ("calibration" in names) == (name in CLASSED)
    assert {check for check in names if check.startswith("class ")} == (
        {f"class {of}" for of in CLASSES} if name in CLASSED else set()
    )


@pytest.mark.parametrize(
    ("name", "metric"),
    [("multiclass", "accuracy"), ("segmentation", "miou"), ("tile value", "r2"), ("pixel value", "r2")],
)
def test_the_primary_score_of_the_kind_must_not_drop(name, metric, thresholds):
    good, poor = scores_of(name, 0.05), scores_of(name, 0.3)
    loose = thresholds.model_copy(
        update={"min_by_setting": {}, "min_class_score": 0.0, "max_calibration_error": 1.0, "max_loss": 0.05}
    )
    assert compared_metric(good, loose) == metric
    assert verdict_on(good, loose, good).is_passed
    (check,) = verdict_on(poor, loose, good).failed
    assert check.name == "metric"
    assert check.expected.startswith(f"{metric} not more than 0.05 below the champion's")


@pytest.mark.parametrize("name", KINDS)
def test_each_modality_setting_has_a_floor_in_the_primary_score(name, thresholds):
    challenger = scores_of(name, without=0.8)
    failed = {check.name: check for check in verdict_on(challenger, thresholds).failed}
    metric = challenger.scorer.metrics[0]
    assert list(failed) == ["modalities s1"]
    assert failed["modalities s1"].expected == f"{metric} of at least 0.5"


@pytest.mark.parametrize(("name", "score"), [("multiclass", "recall"), ("segmentation", "IoU")])
def test_each_class_has_a_floor_in_the_score_of_the_kind(name, score, thresholds):
    strict = thresholds.model_copy(update={"class_floors": {"bright": 1.0}})
    (check,) = verdict_on(scores_of(name, 0.1), strict).failed
    assert (check.name, check.expected) == ("class bright", f"{score} of at least 1")
    skipped = [check for check in verdict_on(scores_of(name), strict).checks if check.name == "class absent"]
    assert [check.status for check in skipped] == ["skipped"]


def test_another_score_of_the_kind_may_be_compared(thresholds):
    other = thresholds.model_copy(update={"metric": "pixel_accuracy"})
    challenger = scores_of("segmentation")
    assert compared_metric(challenger, other) == "pixel_accuracy"
    assert "pixel_accuracy of at least 0.5" in [check.expected for check in verdict_on(challenger, other).checks]


def test_maps_are_calibrated_by_the_most_probable_class_of_each_pixel():
    challenger = scores_of("segmentation", 0.25)
    bins = challenger.answers.found["s1+s2"][:, -3 * NUM_BINS :].sum(axis=0, dtype=np.float64).reshape(3, NUM_BINS)
    right = bins[2].sum() / bins[0].sum()
    assert challenger.calibration_error == pytest.approx(abs(0.9 - right), abs=1e-6)


@pytest.mark.parametrize("name", KINDS)
def test_the_report_names_the_scores_of_the_kind(name, thresholds, tmp_path):
    challenger = scores_of(name)
    facts = {"data": "made", "test_set": "", "commit": "c0ffee", "when": "", "thresholds": {}}
    verdict = verdict_on(challenger, thresholds, facts=facts | {"models": [challenger.to_json()]})
    write_verdict(tmp_path, verdict)
    html = (tmp_path / "verdict.html").read_text(encoding="utf-8")
    first = {"multiclass": "top-1 accuracy", "segmentation": "mean IoU"}.get(name, "R²")
    assert f"<td>{first}, s1+s2</td>" in html
    assert ("calibration error" in html) == (name in CLASSED)
    assert as_text(verdict).splitlines()[0].startswith("gate: m/2 passes")


@pytest.mark.parametrize(
    ("model", "test_set", "why"),
    [
        ("multiclass", "multilabel", "its labels are of another kind(.|\n)*got:? +multiclass(.|\n)*multilabel"),
        ("segmentation", "pixel value", "its labels are of another kind"),
        ("tile value", "pixel value", "its value is another"),
    ],
)
def test_a_model_of_another_kind_is_refused_by_its_name(model, test_set, why):
    reader = SimpleNamespace(task=TASKS[test_set], inputs=())
    session = SimpleNamespace(task=TASKS[model], inputs=())
    with pytest.raises(PromotionError, match=rf"fusmae/4 can't be judged on this test set: {why}"):
        require_same(SimpleNamespace(label="fusmae/4"), session, reader)


def test_a_model_of_other_classes_or_in_another_unit_is_refused_and_an_encoder_is_not():
    label = SimpleNamespace(label="fusmae/4")
    of = SimpleNamespace(task=Task(kind="multiclass", classes=("a", "b")), inputs=())
    with pytest.raises(PromotionError, match="its classes are others"):
        require_same(label, of, SimpleNamespace(task=TASKS["multiclass"], inputs=()))
    in_kg = Task(kind="regression", value=BIOMASS.model_copy(update={"unit": "kg/ha"}))
    with pytest.raises(PromotionError, match="its value is another"):
        require_same(
            label, SimpleNamespace(task=in_kg, inputs=()), SimpleNamespace(task=TASKS["tile value"], inputs=())
        )
    require_same(label, SimpleNamespace(task=None, inputs=()), of)
