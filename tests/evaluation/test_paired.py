import numpy as np
import pytest

from fusmae.config.task import Task
from fusmae.evaluation.metrics import average_precisions
from fusmae.evaluation.resampling import paired_differences
from fusmae.evaluation.scorers import MultilabelScorer

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 2, (80, 2))
GOOD = np.clip(LABELS * 0.4 + RANDOM.random((80, 2)) * 0.6, 0, 1)
POOR = RANDOM.random((80, 2))
APART = [f"place {number}" for number in range(80)]


def difference(one, other, places=APART, labels=LABELS, metric="micro_ap", **changes):
    settings = {"resamples": 200, "confidence": 0.95, "seed": 0} | changes
    scorer = MultilabelScorer(Task(classes=("water", "forest")), labels)
    return paired_differences(scorer, one, other, places=places, **settings)[metric]


@pytest.mark.parametrize(("at", "metric"), enumerate(("micro_ap", "macro_ap")))
def test_a_difference_is_that_of_the_whole_set_and_lies_in_its_interval(at, metric):
    found = difference(POOR, GOOD, metric=metric)
    assert found.difference == average_precisions(LABELS, POOR)[at] - average_precisions(LABELS, GOOD)[at]
    assert found.low < found.difference < found.high < 0
    assert (found.metric, found.num_places, found.resamples) == (metric, 80, 200)


def test_an_interval_is_wider_where_pairs_of_a_place_are_alike():
    # Ten places of eight like pairs, on half of which the one model is right and on half the other.
    places = [f"{number // 8}" for number in range(80)]
    swaps = np.array([number // 8 % 2 for number in range(80)], bool)[:, None]
    one, other = np.where(swaps, GOOD, POOR), np.where(swaps, POOR, GOOD)
    pairs, whole = difference(one, other), difference(one, other, places)
    assert (pairs.num_places, whole.num_places) == (80, 10)
    assert pairs.difference == whole.difference
    assert whole.high - whole.low > 1.2 * (pairs.high - pairs.low)


def test_the_same_pairs_eight_times_in_each_place_are_no_more_evidence():
    once, often = APART[:20], APART[:20] * 8
    one = difference(POOR[:20], GOOD[:20], once, LABELS[:20])
    eight = (np.tile(array[:20], (8, 1)) for array in (POOR, GOOD, LABELS))
    poor, good, labels = eight
    repeated = difference(poor, good, often, labels)
    assert (repeated.low, repeated.high) == pytest.approx((one.low, one.high), abs=1e-6)


def test_a_model_does_not_differ_from_itself():
    found = difference(GOOD, GOOD)
    assert (found.low, found.difference, found.high) == (0, 0, 0)
    assert found.loses_at_most(0)


def test_models_that_agree_on_most_pairs_differ_by_little():
    slightly = GOOD.copy()
    slightly[0] = 1 - slightly[0]
    found, other = difference(slightly, GOOD), difference(POOR, GOOD)
    assert found.low <= found.difference <= found.high <= 0
    assert found.high - found.low < other.high - other.low


def test_of_too_few_places_there_is_a_difference_but_no_interval_so_no_loss_is_ruled_out():
    found = difference(GOOD, POOR, [f"{number % 5}" for number in range(80)])
    assert found.difference > 0
    assert (found.low, found.high) == (None, None)
    assert found.why_no_interval == "5 places are too few for a 95% interval, which needs 6"
    assert not found.loses_at_most(1.0)


def test_a_draw_without_labels_does_not_end_the_bootstrap():
    labels = np.zeros((8, 2), int)
    labels[0] = 1
    found = difference(*np.random.default_rng(3).random((2, 8, 2)), APART[:8], labels, "macro_ap", resamples=50)
    assert found.low <= found.high
