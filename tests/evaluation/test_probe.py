import warnings

import numpy as np
import pytest

from fusmae.evaluation.metrics import average_precisions
from fusmae.evaluation.probe import linear_probabilities

NUM_CLASSES, DIM = 3, 8


@pytest.fixture
def splits() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Features that tell three classes apart, with noise, on scales from 0.01 to 100."""
    random = np.random.default_rng(0)
    axes = random.normal(size=(DIM, NUM_CLASSES))
    made = {}
    for split, count in (("train", 80), ("validation", 60), ("test", 60)):
        features = random.normal(size=(count, DIM))
        labels = (features @ axes + random.normal(size=(count, NUM_CLASSES)) > 0.5).astype(np.uint8)
        made[split] = ((features * np.logspace(-2, 2, DIM) + 7).astype(np.float32), labels)
    return made


def fitted(splits, kind="multilabel", targets=None):
    test = [splits["test"][0]] if targets is None else targets
    return linear_probabilities(*splits["train"], *splits["validation"], test, kind)


def as_one_hot(splits):
    return {
        split: (features, np.eye(NUM_CLASSES)[labels.argmax(axis=1)]) for split, (features, labels) in splits.items()
    }


def test_linear_classes_are_found(splits):
    (found,), _ = fitted(splits)
    assert found.shape == splits["test"][1].shape
    assert ((found >= 0) & (found <= 1)).all()
    assert average_precisions(splits["test"][1], found)[1] > 0.85


def test_scales_and_offsets_of_features_do_not_matter(splits):
    scale, offset = np.logspace(3, -3, DIM), np.arange(DIM) * 50.0
    moved = {
        split: (features.astype(np.float64) * scale + offset, labels) for split, (features, labels) in splits.items()
    }
    (found,), strength = fitted(splits)
    (again,), same = fitted(moved)
    np.testing.assert_allclose(again, found, atol=1e-2)
    assert same == strength


def test_one_head_serves_each_condition(splits):
    test = splits["test"][0]
    (alone,), _ = fitted(splits)
    (first, degraded, again), _ = fitted(splits, targets=[test, np.zeros_like(test), test])
    np.testing.assert_array_equal(first, alone)
    np.testing.assert_array_equal(again, alone)
    assert (degraded == degraded[0]).all()


def test_the_strength_is_the_best_one_on_validation(splits, monkeypatch):
    _, chosen = fitted(splits)
    from fusmae.evaluation import probe as linear

    scores = {}
    features, labels = splits["validation"]
    for strength in linear._STRENGTHS:
        monkeypatch.setattr(linear, "_STRENGTHS", (strength,))
        (found,), _ = fitted(splits, targets=[features])
        scores[strength] = average_precisions(labels, found)[1]
    assert scores[chosen] == pytest.approx(max(scores.values()), abs=2e-3)
    assert max(scores.values()) > min(scores.values())


def test_the_test_set_has_no_say_in_the_strength(splits):
    _, chosen = fitted(splits)
    _, other = fitted(splits, targets=[np.random.default_rng(1).normal(size=(9, DIM))])
    assert chosen == other


def test_a_class_with_one_value_among_the_labelled_rows_gets_it(splits):
    splits["train"][1][:, 0], splits["train"][1][:, 2] = 0, 1
    (found,), _ = fitted(splits)
    assert set(found[:, 0]) == {0.0}
    assert set(found[:, 2]) == {1.0}
    assert len(set(found[:, 1])) > 10


def test_a_single_labelled_row_gives_its_own_labels(splits):
    features, labels = splits["train"]
    splits["train"] = features[:1], labels[:1]
    (found,), _ = fitted(splits)
    assert (found == labels[0]).all()
    one_hot = as_one_hot(splits)
    (found,), _ = fitted(one_hot, "multiclass")
    assert (found == one_hot["train"][1][0]).all()


def test_constant_features_give_numbers_and_change_nothing(splits):
    (found,), _ = fitted(splits)
    wider = {
        split: (np.column_stack([features, np.full((len(features), 2), [0.1, 0.0], np.float32)]), labels)
        for split, (features, labels) in splits.items()
    }
    (same,), _ = fitted(wider)
    np.testing.assert_allclose(same, found, atol=1e-3)


def test_one_class_a_row_sums_to_one_and_is_found(splits):
    one_hot = as_one_hot(splits)
    (found,), _ = fitted(one_hot, "multiclass")
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    assert (found.argmax(axis=1) == one_hot["test"][1].argmax(axis=1)).mean() > 0.6


@pytest.mark.parametrize("missing", [0, 1])
def test_a_class_without_a_labelled_row_is_never_predicted(splits, missing):
    one_hot = as_one_hot(splits)
    features, labels = one_hot["train"]
    has_it = labels[:, missing] > 0
    one_hot["train"] = features[~has_it], labels[~has_it]
    (found,), _ = fitted(one_hot, "multiclass")
    assert set(found[:, missing]) == {0.0}
    assert set(found.argmax(axis=1)) == {0, 1, 2} - {missing}


def test_separable_rows_do_not_warn(splits):
    features, labels = splits["train"]
    splits["train"] = features[:6], labels[:6]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (found,), _ = fitted(splits)
    assert np.isfinite(found).all()
