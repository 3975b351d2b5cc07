"""From predictions to rows."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, average_precision_score, jaccard_score, r2_score

from fusmae.config.task import Task, Value
from fusmae.evaluation.map_counts import NUM_BINS, NUM_BORDERS
from fusmae.evaluation.resampling import place_resamples
from fusmae.study.measure.measurement import RowBook
from fusmae.study.results import HEADLINE

CLASSES = ("water", "forest", "town", "ice")
NUM_PAIRS, DRAWS = 60, 25
MULTILABEL = Task(classes=CLASSES)


def counted(confusions):
    """Rows of `fusmae.evaluation.map_counts` with these confusion counts `[N, K, K]` and nothing else."""
    rest = np.zeros((len(confusions), NUM_BORDERS + 3 * NUM_BINS))
    return np.concatenate([confusions.reshape(len(confusions), -1), rest], axis=1)


@pytest.fixture(scope="module")
def weights():
    return place_resamples([f"place {pair // 2}" for pair in range(NUM_PAIRS)], DRAWS, 0)


@pytest.fixture(scope="module")
def probabilities():
    return np.random.default_rng(1).random((NUM_PAIRS, len(CLASSES)))


@pytest.fixture(scope="module")
def labels():
    """No pair has ice."""
    return (np.random.default_rng(2).random((NUM_PAIRS, len(CLASSES))) < (0.6, 0.4, 0.3, 0.0)).astype(np.uint8)


@pytest.fixture(scope="module")
def one_hot():
    return np.eye(len(CLASSES), dtype=np.uint8)[np.random.default_rng(3).integers(3, size=NUM_PAIRS)]


def test_macro_ap_is_scikit_learns_on_the_whole_set(labels, probabilities, weights):
    book = RowBook(MULTILABEL, labels, weights)
    book.add("probe", 0.1, "s1+s2", probabilities)
    (row,) = book.rows
    there = labels[:, :3], probabilities[:, :3]
    assert row.scores["macro_ap"] == pytest.approx(average_precision_score(*there, average="macro"))
    assert row.scores["micro_ap"] == pytest.approx(average_precision_score(labels, probabilities, average="micro"))
    expected = average_precision_score(*there, average=None)
    assert row.per_class == pytest.approx(dict(zip(CLASSES, expected, strict=False)))
    assert row.headline == row.scores["macro_ap"]
    assert set(row.scores) == {"macro_ap", "micro_ap", "macro_f1", "micro_f1"}


def test_classes_in_focus_are_scored_by_themselves_on_the_same_resamples(labels, probabilities, weights):
    book, alone = (RowBook(MULTILABEL, labels, weights, focus) for focus in ([0, 2], ()))
    for made in (book, alone):
        made.add("probe", 0.1, "s1+s2", probabilities)
    (row,), (without,) = book.rows, alone.rows
    own = labels[:, [0, 2]], probabilities[:, [0, 2]]
    assert row.scores["focus_ap"] == pytest.approx(average_precision_score(*own, average="macro"))
    focused = row.in_focus
    assert focused.headline == row.scores["focus_ap"]
    assert focused.name == row.name
    few = RowBook(Task(classes=CLASSES[:2]), own[0], weights)
    few.add("probe", 0.1, "s1+s2", own[1])
    assert list(focused.draws) == list(few.rows[0].draws)
    assert without.in_focus is None
    assert row.draws == without.draws
    assert without.scores == {name: score for name, score in row.scores.items() if name != "focus_ap"}


def test_a_row_has_a_draw_of_its_headline_for_every_resample(labels, probabilities, weights):
    book = RowBook(MULTILABEL, labels, weights)
    book.add("probe", 0.1, "s1+s2", probabilities)
    expected = []
    for row in weights:
        pairs = np.repeat(np.arange(NUM_PAIRS), row)
        expected.append(average_precision_score(labels[pairs][:, :3], probabilities[pairs][:, :3]))
    assert len(book.rows[0].draws) == DRAWS
    np.testing.assert_allclose(book.rows[0].draws, expected, atol=2e-5)


def test_rows_are_drawn_on_the_same_resamples(labels, probabilities, weights):
    book = RowBook(MULTILABEL, labels, weights)
    for protocol, share in (("knn", 1.0), ("probe", 0.01)):
        # The order of the probabilities is all that AP looks at.
        book.add(protocol, share, "s1", probabilities if protocol == "knn" else probabilities**2)
    assert book.rows[0].draws == book.rows[1].draws
    assert np.ptp(book.rows[0].draws) > 0


def test_predictions_are_kept_by_row_name(labels, probabilities, weights):
    book = RowBook(MULTILABEL, labels, weights)
    book.add("knn", 1.0, "s1+clouded s2", probabilities)
    book.add("probe", 0.01, "s1", probabilities)
    assert [row.name for row in book.rows] == ["knn/1/s1+clouded s2", "probe/0.01/s1"] == list(book.predictions)
    assert not book.confusions


def test_one_class_a_pair_is_scored_by_accuracy_and_has_its_confusion(one_hot, probabilities, weights):
    book = RowBook(Task(kind="multiclass", classes=CLASSES), one_hot, weights)
    book.add("finetune", 1.0, "s2", probabilities)
    (row,) = book.rows
    truth, predicted = one_hot.argmax(axis=1), probabilities.argmax(axis=1)
    assert row.headline == row.scores["accuracy"] == pytest.approx(accuracy_score(truth, predicted))
    expected = [accuracy_score(truth, predicted, sample_weight=row) for row in weights]
    np.testing.assert_allclose(row.draws, expected, atol=1e-5)
    counts = book.confusions["finetune/1/s2"]
    assert counts.shape == (4, 4)
    assert (counts.sum(axis=1) == one_hot.sum(axis=0)).all()
    assert np.trace(counts) == (truth == predicted).sum()


def test_maps_are_scored_by_all_their_pixels_together(labels, weights):
    random = np.random.default_rng(4)
    # The last class is predicted, but never true.
    truth, predicted = random.integers(2, size=(NUM_PAIRS, 30)), random.integers(3, size=(NUM_PAIRS, 30))
    confusions = np.zeros((NUM_PAIRS, 3, 3), np.int64)
    for pair in range(NUM_PAIRS):
        np.add.at(confusions[pair], (truth[pair], predicted[pair]), 1)
    book = RowBook(MULTILABEL, labels, weights)
    maps = Task(kind="segmentation", classes=("sea", "land", "rock"))
    book.add("segment", 0.1, "s1+s2", counted(confusions), maps)
    (row,) = book.rows
    assert (row.protocol, row.kind, row.name) == ("segment", "segmentation", "segment/0.1/s1+s2")
    ious = jaccard_score(truth.ravel(), predicted.ravel(), labels=[0, 1], average=None)
    assert row.per_class == pytest.approx({"sea": ious[0], "land": ious[1]})
    assert row.headline == row.scores[HEADLINE["segmentation"]] == pytest.approx(ious.mean())
    assert len(row.draws) == DRAWS
    assert (book.confusions[row.name] == confusions.sum(axis=0)).all()
    assert not book.predictions


def test_a_draw_of_maps_is_that_of_the_pairs_it_has(labels):
    confusions = np.zeros((NUM_PAIRS, 2, 2), np.int64)
    confusions[0], confusions[1:] = np.eye(2) * 5, [[1, 1], [0, 2]]
    weights = np.zeros((2, NUM_PAIRS), np.int32)
    weights[0, 0] = weights[1, 1] = 1
    book = RowBook(MULTILABEL, labels, weights)
    book.add("segment", 1.0, "s1", counted(confusions), Task(kind="segmentation", classes=("sea", "land")))
    assert book.rows[0].draws == pytest.approx([1.0, (1 / 2 + 2 / 3) / 2], abs=1e-5)


def test_values_are_scored_by_r2_and_kept(weights):
    random = np.random.default_rng(5)
    truth = random.normal(100, 30, (NUM_PAIRS, 1))
    predicted = truth + random.normal(3, 10, truth.shape)
    book = RowBook(Task(kind="regression", value=Value(name="biomass", unit="t/ha")), truth, weights)
    book.add("probe", 1.0, "s2", predicted)
    (row,) = book.rows
    assert set(row.scores) == {"r2", "rmse", "mae", "bias"}
    assert row.headline == row.scores["r2"] == pytest.approx(r2_score(truth, predicted))
    expected = [r2_score(truth, predicted, sample_weight=row) for row in weights]
    np.testing.assert_allclose(row.draws, expected, atol=1e-5)
    assert (row.per_class, book.confusions) == ({}, {})
    assert book.predictions[row.name] is predicted
