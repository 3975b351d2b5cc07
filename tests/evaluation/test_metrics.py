import warnings
from itertools import pairwise

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score

from fusmae.config.task import Task
from fusmae.evaluation.metrics import average_precisions, precision_recall
from fusmae.evaluation.scorers import MultilabelScorer, Scores

CLASSES = ("water", "forest", "town", "ice", "bog")
ABSENT = 3


@pytest.fixture
def labels() -> np.ndarray:
    """200 pairs; nobody has ice, few have bog."""
    return (np.random.default_rng(0).random((200, 5)) < [0.5, 0.3, 0.1, 0.0, 0.03]).astype(np.uint8)


@pytest.fixture
def probabilities(labels) -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, 1.2, labels.shape)
    return (1 / (1 + np.exp(-(1.5 * labels - 1 + noise)))).astype(np.float32)


def scored(labels, probabilities, threshold=0.5, classes=CLASSES) -> Scores:
    return MultilabelScorer(Task(classes=classes), labels, threshold).score(probabilities)


def average_precision(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Sum over distinct scores of precision times the recall that each adds, written from the definition."""
    total = 0.0
    recall = 0.0
    for threshold in sorted(set(probabilities.tolist()), reverse=True):
        chosen = probabilities >= threshold
        hits = labels[chosen].sum()
        total += hits / chosen.sum() * (hits / labels.sum() - recall)
        recall = hits / labels.sum()
    return float(total)


def test_average_precision_is_that_of_sklearn_and_of_its_definition(labels, probabilities):
    found = scored(labels, probabilities)
    present = [0, 1, 2, 4]
    assert found["micro_ap"] == pytest.approx(average_precision_score(labels, probabilities, average="micro"))
    assert found["micro_ap"] == pytest.approx(average_precision(labels.ravel(), probabilities.ravel()))
    per_class = [average_precision(labels[:, at], probabilities[:, at]) for at in present]
    assert found["macro_ap"] == pytest.approx(np.mean(per_class))
    assert list(found.per_class) == ["water", "forest", "town", "bog"]
    assert list(found.per_class.values()) == pytest.approx(per_class)
    assert average_precisions(labels, probabilities) == (found["micro_ap"], found["macro_ap"])


def test_scores_are_those_of_the_whole_set_and_no_means_over_batches(labels, probabilities):
    found = scored(labels, probabilities)
    parts = [scored(labels[at : at + 20], probabilities[at : at + 20]) for at in range(0, 200, 20)]
    assert abs(found["micro_ap"] - np.mean([part["micro_ap"] for part in parts])) > 1e-3
    assert abs(found["macro_ap"] - np.mean([part["macro_ap"] for part in parts])) > 1e-2


def test_order_of_pairs_does_not_matter(labels, probabilities):
    order = np.random.default_rng(2).permutation(200)
    assert scored(labels[order], probabilities[order]) == scored(labels, probabilities)


def test_absent_class_is_named_and_left_out_of_macro_means_only(labels, probabilities):
    found = scored(labels, probabilities)
    assert found.absent_classes == ("ice",)
    assert "ice" not in found.per_class
    confident = probabilities.copy()
    confident[:, ABSENT] = 0.999
    worse = scored(labels, confident)
    assert worse["macro_ap"] == found["macro_ap"]
    assert worse["macro_f1"] == found["macro_f1"]
    assert worse.per_class == found.per_class
    # What is predicted where nothing is counts as wrong in every mean over decisions.
    assert worse["micro_ap"] < found["micro_ap"]
    assert worse["micro_f1"] < found["micro_f1"]


def test_scoring_warns_of_nothing(labels, probabilities):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert scored(labels, probabilities)["micro_ap"]
        assert precision_recall(labels, probabilities)


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
def test_f1_is_that_of_sklearn_at_the_threshold(labels, probabilities, threshold):
    found = scored(labels, probabilities, threshold=threshold)
    predicted = probabilities >= threshold
    assert found["micro_f1"] == pytest.approx(f1_score(labels, predicted, average="micro"))
    present = [0, 1, 2, 4]
    expected = f1_score(labels[:, present], predicted[:, present], average="macro", zero_division=0)
    assert found["macro_f1"] == pytest.approx(expected)
    assert found["micro_ap"] == scored(labels, probabilities)["micro_ap"]


def test_a_probability_at_the_threshold_counts_as_predicted():
    found = scored(np.array([[1], [0]]), np.array([[0.5], [0.4]]), classes=("a",))
    assert found["micro_f1"] == 1.0


def test_predicting_nothing_scores_zero_f1(labels, probabilities):
    found = scored(labels, probabilities * 0.1)
    assert (found["micro_f1"], found["macro_f1"]) == (0.0, 0.0)


def test_perfect_predictions_score_one(labels):
    found = scored(labels, labels * 0.9)
    assert (found["micro_ap"], found["macro_ap"], found["micro_f1"], found["macro_f1"]) == (1.0, 1.0, 1.0, 1.0)


def test_one_class_alone_is_scored():
    found = scored(np.array([[1], [0], [1]]), np.array([[0.9], [0.6], [0.3]]), classes=("a",))
    assert found["micro_ap"] == found["macro_ap"] == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_precision_recall_goes_from_no_recall_to_all_and_encloses_the_average_precision(labels, probabilities):
    points = precision_recall(labels, probabilities)
    recall = [point["recall"] for point in points]
    assert recall == sorted(recall)
    assert (recall[0], recall[-1]) == (0.0, 1.0)
    area = sum((after["recall"] - before["recall"]) * after["precision"] for before, after in pairwise(points))
    assert area == pytest.approx(scored(labels, probabilities)["micro_ap"])


def test_every_point_of_precision_recall_is_that_of_some_threshold(labels, probabilities):
    truth, chances = labels.ravel(), probabilities.ravel()
    possible = set()
    for threshold in chances:
        chosen = chances >= threshold
        possible.add((round(truth[chosen].sum() / truth.sum(), 9), round(truth[chosen].mean(), 9)))
    points = {
        (round(point["recall"], 9), round(point["precision"], 9)) for point in precision_recall(labels, probabilities)
    }
    assert points - possible == {(0.0, 1.0)}
