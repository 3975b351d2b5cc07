"""Each kind's scorer against scikit-learn on plain arrays, and its draws against scores of the repeated rows."""

import warnings

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    jaccard_score,
    mean_absolute_error,
    r2_score,
    recall_score,
    root_mean_squared_error,
)

from fusmae.config.task import Task, Value
from fusmae.data.pixels import NO_CLASS
from fusmae.evaluation.map_counts import count_map
from fusmae.evaluation.metrics import average_precisions, headline, headline_of
from fusmae.evaluation.resampling import place_resamples
from fusmae.evaluation.scorers import LABELS, LOWER_IS_BETTER, metrics_of, scorer_of
from tests.kinds import TASKS

CLASSES = ("water", "forest", "town", "ice")
NUM_PAIRS, NUM_DRAWS, SIDE = 40, 8, 6
RANDOM = np.random.default_rng(0)
WEIGHTS = place_resamples([f"place {number % 13}" for number in range(NUM_PAIRS)], NUM_DRAWS, 0)

TRUTH = RANDOM.choice(3, NUM_PAIRS, p=[0.6, 0.3, 0.1])  # nothing is ice
CHANCES = RANDOM.dirichlet(np.ones(4), NUM_PAIRS) * 0.5 + 0.5 * np.eye(4)[TRUTH] * RANDOM.random((NUM_PAIRS, 1))
ONE_CLASS = scorer_of(Task(kind="multiclass", classes=CLASSES), np.eye(4, dtype=np.uint8)[TRUTH])

MAPS = RANDOM.choice(3, (NUM_PAIRS, SIDE, SIDE), p=[0.6, 0.35, 0.05]).astype(np.uint8)
FOUND_MAPS = np.where(RANDOM.random(MAPS.shape) < 0.7, MAPS, RANDOM.integers(0, 4, MAPS.shape))
MAPS[RANDOM.random(MAPS.shape) < 0.2] = NO_CLASS
SEGMENTATION = Task(kind="segmentation", classes=CLASSES)
COUNTS = count_map(SEGMENTATION, FOUND_MAPS, None, MAPS)
OF_MAPS = scorer_of(SEGMENTATION, np.zeros((NUM_PAIRS, 4)))

VALUES = RANDOM.normal(120, 30, (NUM_PAIRS, 1))
FOUND_VALUES = VALUES + RANDOM.normal(5, 15, VALUES.shape)
HEIGHT = Value(name="height", unit="m")
OF_VALUES = scorer_of(Task(kind="regression", value=HEIGHT), VALUES)

VALUE_MAPS = RANDOM.normal(120, 30, (NUM_PAIRS, SIDE, SIDE)).astype(np.float32)
FOUND_VALUE_MAPS = VALUE_MAPS + RANDOM.normal(5, 15, VALUE_MAPS.shape).astype(np.float32)
VALUE_MAPS[RANDOM.random(MAPS.shape) < 0.2] = np.nan
PER_PIXEL = Task(kind="regression", value=HEIGHT.model_copy(update={"per": "pixel"}))
OF_VALUE_MAPS = scorer_of(PER_PIXEL, np.zeros((NUM_PAIRS, 1)))
SUMS = count_map(PER_PIXEL, FOUND_VALUE_MAPS, None, VALUE_MAPS)


def pixels(maps, found, known, rows=slice(None)):
    """True and predicted numbers of all pixels of some pairs that have a label."""
    return maps[rows][known[rows]], found[rows][known[rows]]


def test_one_class_per_tile_has_scikit_learn_s_scores():
    predicted, found = CHANCES.argmax(axis=1), ONE_CLASS.score(CHANCES)
    assert found.values == pytest.approx(
        {
            "accuracy": accuracy_score(TRUTH, predicted),
            "balanced_accuracy": recall_score(TRUTH, predicted, labels=[0, 1, 2], average="macro"),
            "macro_f1": f1_score(TRUTH, predicted, labels=[0, 1, 2], average="macro"),
            "macro_ap": average_precisions(np.eye(4, dtype=int)[TRUTH], CHANCES)[1],
        }
    )
    recalls = recall_score(TRUTH, predicted, labels=[0, 1, 2], average=None)
    assert found.per_class == pytest.approx(dict(zip(CLASSES, recalls, strict=False)))
    assert found.absent_classes == ("ice",)


def test_confusion_has_true_rows_and_predicted_columns():
    expected = confusion_matrix(TRUTH, CHANCES.argmax(axis=1), labels=range(4))
    np.testing.assert_array_equal(ONE_CLASS.confusion(CHANCES), expected)
    by_hand = scorer_of(ONE_CLASS.task, np.eye(4)[[0, 0, 0, 1, 1, 2]]).confusion(np.eye(4)[[0, 0, 1, 1, 3, 2]])
    assert by_hand.tolist() == [[2, 1, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]]


def test_a_set_of_one_class_is_scored():
    scorer = scorer_of(ONE_CLASS.task, np.eye(4, dtype=np.uint8)[[0, 0, 0]])
    found = scorer.score(np.eye(4)[[0, 0, 1]] * 0.4 + 0.1)
    expected = {"accuracy": 2 / 3, "balanced_accuracy": 2 / 3, "macro_f1": 4 / 5, "macro_ap": 1.0}
    assert found.values == pytest.approx(expected)
    assert found.per_class == pytest.approx({"water": 2 / 3})


def test_maps_have_scikit_learn_s_scores_over_all_their_pixels():
    truth, predicted = pixels(MAPS, FOUND_MAPS, MAPS != NO_CLASS)
    found = OF_MAPS.score(COUNTS)
    ious = jaccard_score(truth, predicted, labels=[0, 1, 2], average=None)
    assert found["miou"] == pytest.approx(ious.mean())
    assert found["pixel_accuracy"] == pytest.approx(accuracy_score(truth, predicted))
    assert found.per_class == pytest.approx(dict(zip(CLASSES, ious, strict=False)))
    assert found.absent_classes == ("ice",)
    np.testing.assert_array_equal(OF_MAPS.confusion(COUNTS), confusion_matrix(truth, predicted, labels=range(4)))


def test_a_class_without_a_pixel_is_no_part_of_the_mean_but_counts_as_a_mistake():
    counts = np.zeros((1, 9 + 4), np.float32)
    counts[0, :9] = np.array([[6, 0, 2], [0, 4, 0], [0, 0, 0]]).ravel()
    found = scorer_of(Task(kind="segmentation", classes=("a", "b", "c")), np.zeros((1, 3))).score(counts)
    assert found.per_class == {"a": 0.75, "b": 1.0}
    assert (found["miou"], found["pixel_accuracy"]) == (0.875, pytest.approx(10 / 12))


@pytest.mark.parametrize(
    ("scorer", "found", "truth", "predicted"),
    [
        (OF_VALUES, FOUND_VALUES, VALUES.ravel(), FOUND_VALUES.ravel()),
        (OF_VALUE_MAPS, SUMS, *pixels(VALUE_MAPS, FOUND_VALUE_MAPS, np.isfinite(VALUE_MAPS))),
    ],
)
def test_values_have_scikit_learn_s_scores(scorer, found, truth, predicted):
    scores = scorer.score(found)
    assert scores.values == pytest.approx(
        {
            "r2": r2_score(truth, predicted),
            "rmse": root_mean_squared_error(truth, predicted),
            "mae": mean_absolute_error(truth, predicted),
            "bias": float(np.mean(predicted.astype(np.float64) - truth)),
        },
        rel=1e-4,
    )
    assert (scores.per_class, scores.absent_classes) == ({}, ())


def test_values_far_from_zero_lose_no_digits():
    truth = 20_000 + RANDOM.normal(0, 1, (200, 5, 5))
    predicted = truth + RANDOM.normal(0, 0.3, truth.shape)
    sums = count_map(PER_PIXEL, predicted, None, truth)
    assert sums.dtype == np.float64
    found = scorer_of(PER_PIXEL, np.zeros((200, 1))).score(sums)
    assert found["r2"] == pytest.approx(r2_score(truth.ravel(), predicted.ravel()), abs=1e-6)


def test_values_that_are_all_the_same_have_an_r2_of_0():
    scorer = scorer_of(OF_VALUES.task, np.full((4, 1), 7.0))
    assert scorer.score(np.full((4, 1), 8.0)).values == {"r2": 0, "rmse": 1, "mae": 1, "bias": 1}


def of_one_class(rows):
    truth, predicted = TRUTH[rows], CHANCES.argmax(axis=1)[rows]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "y_pred contains classes not in y_true")
        return accuracy_score(truth, predicted), balanced_accuracy_score(truth, predicted)


def of_maps(rows):
    truth, predicted = pixels(MAPS, FOUND_MAPS, MAPS != NO_CLASS, rows)
    present = np.unique(truth)
    return jaccard_score(truth, predicted, labels=present, average="macro"), accuracy_score(truth, predicted)


def of_values(rows):
    truth, predicted = VALUES[rows, 0], FOUND_VALUES[rows, 0]
    return r2_score(truth, predicted), root_mean_squared_error(truth, predicted)


def of_value_maps(rows):
    truth, predicted = pixels(VALUE_MAPS, FOUND_VALUE_MAPS, np.isfinite(VALUE_MAPS), rows)
    return r2_score(truth, predicted), root_mean_squared_error(truth, predicted)


@pytest.mark.parametrize(
    ("scorer", "found", "of_rows"),
    [
        (ONE_CLASS, CHANCES, of_one_class),
        (OF_MAPS, COUNTS, of_maps),
        (OF_VALUES, FOUND_VALUES, of_values),
        (OF_VALUE_MAPS, SUMS, of_value_maps),
    ],
)
def test_scores_of_a_draw_are_those_of_the_repeated_pairs(scorer, found, of_rows):
    drawn = scorer.draws(found, WEIGHTS)
    assert tuple(drawn) == scorer.metrics
    expected = [of_rows(np.repeat(np.arange(NUM_PAIRS), row)) for row in WEIGHTS]
    np.testing.assert_allclose(np.stack(list(drawn.values()), axis=1), expected, rtol=1e-4)
    whole, scores = scorer.draws(found, np.ones((1, NUM_PAIRS), np.int32)), scorer.score(found)
    assert {name: values[0] for name, values in whole.items()} == pytest.approx({name: scores[name] for name in whole})


@pytest.mark.parametrize(("scorer", "found"), [(ONE_CLASS, CHANCES), (OF_MAPS, COUNTS), (OF_VALUES, FOUND_VALUES)])
def test_a_draw_without_any_pair_scores_nothing_and_warns_of_nothing(scorer, found):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = scorer.draws(found, np.zeros((2, NUM_PAIRS), np.int32))
        assert {value for values in drawn.values() for value in values.tolist()} == {0.0}
        scorer.score(found)
        assert all(not len(values) for values in scorer.draws(found, np.zeros((0, NUM_PAIRS), np.int32)).values())


def test_perfect_answers_score_one():
    assert set(ONE_CLASS.score(np.eye(4)[TRUTH]).values.values()) == {1.0}
    perfect = count_map(SEGMENTATION, np.where(MAPS == NO_CLASS, 0, MAPS), None, MAPS)
    assert OF_MAPS.score(perfect).values["miou"] == 1.0
    assert OF_VALUES.score(VALUES).values == {"r2": 1, "rmse": 0, "mae": 0, "bias": 0}


def test_maps_without_any_class_score_nothing():
    found = OF_MAPS.score(np.zeros_like(COUNTS))
    assert found.values == {"miou": 0, "pixel_accuracy": 0, "boundary_f1": 0}
    assert found.absent_classes == CLASSES


@pytest.mark.parametrize(
    ("name", "metrics"),
    [
        ("multilabel", ("micro_ap", "macro_ap")),
        ("multiclass", ("accuracy", "balanced_accuracy")),
        ("segmentation", ("miou", "pixel_accuracy")),
        ("tile value", ("r2", "rmse")),
        ("pixel value", ("r2", "rmse")),
    ],
)
def test_the_primary_score_of_a_kind_comes_first_and_more_of_it_is_better(name, metrics):
    assert metrics_of(TASKS[name]) == metrics
    assert metrics[0] not in LOWER_IS_BETTER
    scorer = scorer_of(TASKS[name], np.zeros((0, TASKS[name].num_outputs)))
    assert not set(scorer.metrics) & set(scorer.others)
    assert {*scorer.metrics, *scorer.others} <= set(LABELS)
    assert bool(scorer.class_metric) == bool(TASKS[name].classes)


def test_ways_of_reading_labels_of_tiles_are_compared_by_one_score():
    several = Task(classes=CLASSES)
    assert [headline_of(task) for task in (several, ONE_CLASS.task, OF_VALUES.task)] == ["macro_ap", "accuracy", "r2"]
    assert headline(ONE_CLASS.task, ONE_CLASS.labels, CHANCES) == ONE_CLASS.score(CHANCES)["accuracy"]
    assert headline(several, ONE_CLASS.labels, CHANCES) == average_precisions(ONE_CLASS.labels, CHANCES)[1]
    assert headline(OF_VALUES.task, VALUES, FOUND_VALUES) == pytest.approx(OF_VALUES.score(FOUND_VALUES)["r2"])
