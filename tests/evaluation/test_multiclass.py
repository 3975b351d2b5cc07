import warnings

import numpy as np
import pytest

from fusmae.evaluation.metrics import class_scores, confusion

CLASSES = ("water", "forest", "town", "ice")
TRUTH, PREDICTED = [0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 3, 2]
LABELS = np.eye(4, dtype=np.uint8)[TRUTH]
PROBABILITIES = np.eye(4)[PREDICTED] * 0.4 + 0.1


def test_accuracy_is_the_share_of_right_answers():
    scores, _ = class_scores(LABELS, PROBABILITIES, CLASSES)
    assert scores["accuracy"] == pytest.approx(4 / 6)


def test_macro_f1_is_the_mean_over_the_classes_that_the_set_has():
    scores, _ = class_scores(LABELS, PROBABILITIES, CLASSES)
    assert scores["macro_f1"] == pytest.approx(np.mean([4 / 5, 1 / 2, 1]))


def test_average_precision_is_by_name_and_leaves_absent_classes_out():
    scores, per_class = class_scores(LABELS, PROBABILITIES, CLASSES)
    assert list(per_class) == ["water", "forest", "town"]
    # Two of three at precision 1, the last among all six.
    assert per_class["water"] == pytest.approx(2 / 3 + 1 / 3 * 3 / 6)
    assert scores["macro_ap"] == pytest.approx(np.mean(list(per_class.values())))


def test_a_set_of_one_class_is_scored():
    scores, per_class = class_scores(LABELS[:3], PROBABILITIES[:3], CLASSES)
    assert scores == pytest.approx({"accuracy": 2 / 3, "macro_f1": 4 / 5, "macro_ap": 1.0})
    assert per_class == {"water": 1.0}


def test_perfect_predictions_score_one():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores, _ = class_scores(LABELS, LABELS.astype(float), CLASSES)
    assert set(scores.values()) == {1.0}


def test_confusion_has_true_rows_and_predicted_columns():
    assert confusion(LABELS, PROBABILITIES).tolist() == [[2, 1, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]]
