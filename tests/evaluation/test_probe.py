import warnings

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fusmae.config.task import Task
from fusmae.evaluation import probe
from fusmae.evaluation.metrics import average_precisions
from fusmae.evaluation.probe import fit_probe

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


def fitted(splits, kind="multilabel"):
    return fit_probe(*splits["train"], *splits["validation"], Task(kind=kind, classes=("a", "b", "c")))


def probabilities(splits, kind="multilabel"):
    """What the fitted probe makes of the test set."""
    return fitted(splits, kind).predict(splits["test"][0])


def as_one_hot(splits):
    return {
        split: (features, np.eye(NUM_CLASSES)[labels.argmax(axis=1)]) for split, (features, labels) in splits.items()
    }


def test_linear_classes_are_found(splits):
    found = probabilities(splits)
    assert found.shape == splits["test"][1].shape
    assert ((found >= 0) & (found <= 1)).all()
    assert average_precisions(splits["test"][1], found)[1] > 0.85


def test_scales_and_offsets_of_features_do_not_matter(splits):
    scale, offset = np.logspace(3, -3, DIM), np.arange(DIM) * 50.0
    moved = {
        split: (features.astype(np.float64) * scale + offset, labels) for split, (features, labels) in splits.items()
    }
    np.testing.assert_allclose(probabilities(moved), probabilities(splits), atol=1e-2)
    assert fitted(moved).strength == fitted(splits).strength


def test_a_row_is_predicted_from_its_own_features_alone(splits):
    test, fit = splits["test"][0], fitted(splits)
    whole = fit.predict(test)
    np.testing.assert_allclose(fit.predict(test[::-1]), whole[::-1], rtol=1e-9)
    np.testing.assert_allclose(fit.predict(test[3:4]), whole[3:4], rtol=1e-9)
    degraded = fit.predict(np.zeros_like(test))
    assert (degraded == degraded[0]).all()


def test_the_strength_is_the_best_one_on_validation(splits, monkeypatch):
    chosen = fitted(splits)
    scores = {}
    features, labels = splits["validation"]
    for strength in probe._STRENGTHS:
        monkeypatch.setattr(probe, "_STRENGTHS", (strength,))
        scores[strength] = average_precisions(labels, fitted(splits).predict(features))[1]
    assert scores[chosen.strength] == pytest.approx(max(scores.values()), abs=2e-3)
    assert max(scores.values()) > min(scores.values())
    assert chosen.score == average_precisions(labels, chosen.predict(features))[1]


def test_a_class_with_one_value_among_the_labelled_rows_gets_it(splits):
    splits["train"][1][:, 0], splits["train"][1][:, 2] = 0, 1
    found = probabilities(splits)
    assert set(found[:, 0]) == {0.0}
    assert set(found[:, 2]) == {1.0}
    assert len(set(found[:, 1])) > 10


def test_a_single_labelled_row_gives_its_own_labels(splits):
    features, labels = splits["train"]
    splits["train"] = features[:1], labels[:1]
    found = probabilities(splits)
    assert (found == labels[0]).all()
    one_hot = as_one_hot(splits)
    found = probabilities(one_hot, "multiclass")
    assert (found == one_hot["train"][1][0]).all()


def test_constant_features_give_numbers_and_change_nothing(splits):
    found = probabilities(splits)
    wider = {
        split: (np.column_stack([features, np.full((len(features), 2), [0.1, 0.0], np.float32)]), labels)
        for split, (features, labels) in splits.items()
    }
    wider["test"] = (wider["test"][0], splits["test"][1])
    np.testing.assert_allclose(probabilities(wider), found, atol=1e-3)


def test_one_class_a_row_sums_to_one_and_is_found(splits):
    one_hot = as_one_hot(splits)
    found = probabilities(one_hot, "multiclass")
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    assert (found.argmax(axis=1) == one_hot["test"][1].argmax(axis=1)).mean() > 0.6


@pytest.mark.parametrize("missing", [0, 1])
def test_a_class_without_a_labelled_row_is_never_predicted(splits, missing):
    one_hot = as_one_hot(splits)
    features, labels = one_hot["train"]
    has_it = labels[:, missing] > 0
    one_hot["train"] = features[~has_it], labels[~has_it]
    found = probabilities(one_hot, "multiclass")
    assert set(found[:, missing]) == {0.0}
    assert set(found.argmax(axis=1)) == {0, 1, 2} - {missing}


def test_separable_rows_do_not_warn(splits):
    features, labels = splits["train"]
    splits["train"] = features[:6], labels[:6]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = probabilities(splits)
    assert np.isfinite(found).all()


def as_logistic_regression(splits, kind, strength):
    """Probabilities of scikit-learn's own estimators, one per class or one for all."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
    (features, labels), (test, _) = splits["train"], splits["test"]
    if kind == "multiclass":
        found = np.zeros((len(test), NUM_CLASSES))
        found[:, np.unique(labels.argmax(axis=1))] = model.fit(features, labels.argmax(axis=1)).predict_proba(test)
        return found
    return np.column_stack([model.fit(features, column).predict_proba(test)[:, 1] for column in labels.T])


def without(splits, column):
    features, labels = splits["train"]
    kept = labels[:, column] == 0
    return splits | {"train": (features[kept], labels[kept])}


@pytest.mark.parametrize(("kind", "missing"), [("multilabel", None), ("multiclass", None), ("multiclass", 1)])
def test_probe_and_its_saved_head_predict_as_scikit_learn_does(splits, monkeypatch, kind, missing):
    # One strength of which all fits converge, so that all come to the same solution.
    monkeypatch.setattr(probe, "_STRENGTHS", (0.1,))
    monkeypatch.setattr(probe, "_MAX_STEPS", 2000)
    if kind == "multiclass":
        splits = as_one_hot(splits)
    if missing is not None:  # of the two classes that are left, scikit-learn fits one row
        splits = without(splits, missing)
    splits = {split: (features.astype(np.float64), labels) for split, (features, labels) in splits.items()}
    expected, fit = as_logistic_regression(splits, kind, 0.1), fitted(splits, kind)
    np.testing.assert_allclose(fit.predict(splits["test"][0]), expected, atol=1e-6)
    logits = logits_of(fit.head(), splits["test"][0])
    saved = logits.sigmoid() if kind == "multilabel" else logits.softmax(dim=1)
    np.testing.assert_allclose(saved.numpy(), expected, atol=1e-5)


def logits_of(head, features):
    with torch.no_grad():
        return head(torch.from_numpy(features).float())


@pytest.mark.parametrize("kind", ["multilabel", "multiclass"])
def test_the_saved_head_of_a_class_that_cannot_be_fitted_is_exactly_sure(splits, kind):
    splits["train"][1][:, 0] = 0
    splits["train"][1][:, 2] = 1
    if kind == "multiclass":
        splits["train"][1][:, 1] = 0
    head = fitted(splits, kind).head()
    logits = logits_of(head, splits["test"][0])
    found = logits.sigmoid() if kind == "multilabel" else logits.softmax(dim=1)
    assert torch.isfinite(logits).all()
    assert set(found[:, 0].tolist()) == {0.0}
    assert set(found[:, 2].tolist()) == {1.0}
    assert not head.training


def test_features_of_nearly_no_variance_are_scaled_all_the_same(splits):
    splits = {
        split: ((features - 7).astype(np.float64) * 1e-6 + 1, labels) for split, (features, labels) in splits.items()
    }
    fit = fitted(splits)
    assert average_precisions(splits["test"][1], fit.predict(splits["test"][0]))[1] > 0.85
