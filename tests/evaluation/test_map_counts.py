"""What is counted of maps, against scikit-learn and torchmetrics on the same pixels."""

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix
from torchmetrics.functional.classification import multiclass_calibration_error

from fusmae.config.task import Task, Value
from fusmae.data.pixels import NO_CLASS
from fusmae.evaluation.map_counts import NUM_BINS, NUM_BORDERS, calibration_of_bins, count_map, sums_of_values
from fusmae.evaluation.scorers import SegmentationScorer

CLASSES = ("a", "b", "c")
TASK = Task(kind="segmentation", classes=CLASSES)
SIDE = 40


@pytest.fixture
def maps():
    """Answers and true maps `[4, 12, 9]`, which agree on most pixels; some have no class, all of the last map."""
    random = np.random.default_rng(0)
    truth = random.integers(0, 3, (4, 12, 9)).astype(np.uint8)
    answers = np.where(random.random(truth.shape) < 0.6, truth, random.integers(0, 3, truth.shape))
    truth[random.random(truth.shape) < 0.2] = NO_CLASS
    truth[3] = NO_CLASS
    return answers, truth


def confusions(counts):
    return counts[:, :9].reshape(-1, 3, 3)


def borders(counts):
    return counts[:, 9 : 9 + NUM_BORDERS]


def test_each_pair_has_the_confusion_of_its_own_pixels_with_a_class(maps):
    found = confusions(count_map(TASK, maps[0], None, maps[1]))
    for own, answers, truth in zip(found, *maps, strict=True):
        known = truth != NO_CLASS
        expected = np.zeros((3, 3))
        if known.any():
            expected = confusion_matrix(truth[known], answers[known], labels=range(3))
        np.testing.assert_array_equal(own, expected)


def test_counts_of_a_pair_do_not_depend_on_the_others(maps):
    whole = count_map(TASK, maps[0], None, maps[1])
    for row in range(4):
        alone = count_map(TASK, maps[0][row : row + 1], None, maps[1][row : row + 1])
        np.testing.assert_array_equal(alone[0], whole[row])


def test_a_map_without_any_class_counts_for_nothing(maps):
    confidence = np.random.default_rng(1).random(maps[0].shape)
    assert not count_map(TASK, maps[0], confidence, maps[1])[3].any()


def test_answers_at_pixels_without_a_class_count_for_nothing(maps):
    answers, truth = maps
    truth[:, 4:8] = NO_CLASS
    confidence = np.random.default_rng(1).random(answers.shape)
    before = count_map(TASK, answers, confidence, truth)
    others, sure = answers.copy(), confidence.copy()
    others[:, 5:7], sure[:, 4:8] = 2, 0.99
    after = count_map(TASK, others, sure, truth)
    np.testing.assert_array_equal(after, before)


def halves(edge):
    """A map `[1, h, w]` of two classes, with a border between columns."""
    found = np.zeros((1, SIDE, SIDE), np.uint8)
    found[:, :, edge:] = 1
    return found


@pytest.mark.parametrize(("shift", "is_found"), [(0, True), (1, True), (-2, True), (2, True), (3, False), (-3, False)])
def test_a_border_counts_as_found_within_two_pixels(shift, is_found):
    counts = count_map(TASK, halves(20 + shift), None, halves(20))
    ((hits, predicted, met, true),) = borders(counts)
    assert (predicted, true) == (SIDE, SIDE)
    assert (hits, met) == ((SIDE, SIDE) if is_found else (0, 0))
    scorer = SegmentationScorer(TASK, np.zeros((1, 3)))
    assert scorer.score(counts)["boundary_f1"] == (1.0 if is_found else 0.0)


def test_borders_are_counted_in_rows_and_columns_alike():
    across = borders(count_map(TASK, halves(21), None, halves(20)))
    along = borders(count_map(TASK, halves(21).swapaxes(1, 2), None, halves(20).swapaxes(1, 2)))
    np.testing.assert_array_equal(across, along)


def test_border_f1_has_precision_and_recall():
    # One true border is found, one is missed; two of the predicted ones are no borders.
    truth, answers = halves(20), halves(20)
    truth[:, :, 5:6] = 2  # a strip: two borders, at 4 and at 5
    answers[:, :, 30:31] = 2
    ((hits, predicted, met, true),) = borders(count_map(TASK, answers, None, truth))
    assert (hits, predicted, met, true) == (SIDE, 3 * SIDE, SIDE, 3 * SIDE)


def test_a_border_beside_pixels_without_a_class_is_of_the_labels_and_does_not_count():
    truth = halves(20)
    truth[:, :, 18:22] = NO_CLASS
    assert not borders(count_map(TASK, halves(20), None, truth)).any()


@pytest.mark.parametrize("sharpness", [0.5, 3.0])
def test_calibration_error_of_bins_is_torchmetrics(sharpness):
    random = np.random.default_rng(0)
    logits = torch.from_numpy(random.normal(0, sharpness, (3, 3, 20, 20))).float()
    truth = random.integers(0, 3, (3, 20, 20)).astype(np.uint8)
    truth[0, :5] = NO_CLASS
    best = logits.softmax(1).max(1)
    counts = count_map(TASK, best.indices.numpy(), best.values.numpy(), truth)
    found = calibration_of_bins(counts[:, -3 * NUM_BINS :].sum(axis=0, dtype=np.float64))
    expected = multiclass_calibration_error(
        logits.softmax(1), torch.from_numpy(truth).long(), 3, n_bins=NUM_BINS, ignore_index=NO_CLASS
    )
    assert found == pytest.approx(expected.item(), abs=1e-5)


def test_a_certain_answer_is_in_the_last_bin_and_no_pixel_has_no_error():
    ones = np.ones((1, 4, 4))
    right = count_map(TASK, np.zeros((1, 4, 4), int), ones, np.zeros((1, 4, 4), np.uint8))
    wrong = count_map(TASK, np.ones((1, 4, 4), int), ones, np.zeros((1, 4, 4), np.uint8))
    for counts, error in ((right, 0.0), (wrong, 1.0)):
        bins = counts[0, -3 * NUM_BINS :]
        assert bins[NUM_BINS - 1] == 16
        assert calibration_of_bins(bins) == error
    assert calibration_of_bins(np.zeros(3 * NUM_BINS)) == 0


def test_values_have_the_sums_of_their_known_pixels():
    random = np.random.default_rng(0)
    truth, predicted = random.normal(50, 9, (3, 6, 5)), random.normal(50, 9, (3, 6, 5))
    truth[0, :2], truth[2] = np.nan, np.nan
    task = Task(kind="regression", value=Value(name="height", unit="m", per="pixel"))
    found = count_map(task, predicted.astype(np.float32), None, truth.astype(np.float32))
    for own, true, guess in zip(found, truth, predicted, strict=True):
        known = np.isfinite(true)
        error = guess[known] - true[known]
        expected = [known.sum(), *(part.sum() for part in (true[known], true[known] ** 2, error, abs(error), error**2))]
        np.testing.assert_allclose(own, expected, rtol=1e-4)


def test_sums_of_values_of_tiles_have_a_row_each():
    found = sums_of_values(np.array([[3.0], [5.0]]), np.array([[1.0], [np.nan]]))
    assert found.tolist() == [[1, 1, 1, 2, 2, 4], [0] * 6]
