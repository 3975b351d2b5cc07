"""kNN and linear probe on frozen features."""

import numpy as np
import pytest

from fusmae.evaluation.conditions import conditions_of
from fusmae.evaluation.features import SplitFeatures
from fusmae.evaluation.neighbours import neighbour_probabilities
from fusmae.evaluation.probe import linear_probabilities
from fusmae.study.measure.heads import head_probabilities

BOTH = ("s1", "s2")
CONDITIONS = conditions_of(BOTH, BOTH)
ROWS = np.arange(0, 60, 2)
PROTOCOLS = ("knn", "probe")


@pytest.fixture
def labels():
    random = np.random.default_rng(0)
    return {split: (random.random((count, 3)) < 0.4).astype(np.uint8) for split, count in (("train", 60), ("val", 20))}


@pytest.fixture
def features(labels):
    """Features that know the labels, another way for each setting."""
    random = np.random.default_rng(1)

    def draw(known, setting):
        mixing = np.random.default_rng(len(setting) + ord(setting[0][1])).normal(size=(3, 8))
        return (known @ mixing + random.normal(0, 0.5, (len(known), 8))).astype(np.float32)

    settings = list(dict.fromkeys(condition.setting for condition in CONDITIONS))
    test = (random.random((15, 3)) < 0.4).astype(np.uint8)
    return SplitFeatures(
        train={setting: draw(labels["train"], setting) for setting in settings},
        validation={setting: draw(labels["val"], setting) for setting in settings},
        test={condition.name: draw(test, condition.setting) for condition in CONDITIONS},
    )


def found_by(protocol, features, labels, kind="multilabel", rows=ROWS):
    return head_probabilities(
        protocol, features, CONDITIONS, rows, labels["train"], labels["val"], kind=kind, neighbours=5
    )


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_condition_has_probabilities_of_every_test_pair(features, labels, protocol):
    found = found_by(protocol, features, labels)
    assert set(found) == {condition.name for condition in CONDITIONS}
    for probabilities in found.values():
        assert probabilities.shape == (15, 3)
        assert ((probabilities >= 0) & (probabilities <= 1)).all()


def test_knn_is_that_of_the_labelled_rows_alone(features, labels):
    expected = neighbour_probabilities(features.train["s2",][ROWS], labels["train"][ROWS], features.test["s2"], k=5)
    np.testing.assert_array_equal(found_by("knn", features, labels)["s2"], expected)


def test_a_probe_is_fitted_on_the_labelled_rows_and_chosen_on_all_of_validation(features, labels):
    (expected,), _ = linear_probabilities(
        features.train[BOTH][ROWS],
        labels["train"][ROWS],
        features.validation[BOTH],
        labels["val"],
        [features.test["s1+clouded s2"]],
        "multilabel",
    )
    np.testing.assert_allclose(found_by("probe", features, labels)["s1+clouded s2"], expected)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_labels_and_features_of_other_rows_are_never_looked_at(features, labels, protocol):
    expected = found_by(protocol, features, labels)
    others = np.setdiff1d(np.arange(60), ROWS)
    labels["train"][others] = 1 - labels["train"][others]
    for found in features.train.values():
        found[others] = 1e6
    again = found_by(protocol, features, labels)
    for name, probabilities in expected.items():
        np.testing.assert_array_equal(again[name], probabilities)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_one_head_serves_a_setting_whatever_clouds_do(features, labels, protocol):
    expected = found_by(protocol, features, labels)
    features.test["s1+clouded s2"] = features.test["s1+s2"][::-1]
    again = found_by(protocol, features, labels)
    np.testing.assert_array_equal(again["s1+s2"], expected["s1+s2"])
    np.testing.assert_allclose(again["s1+clouded s2"], expected["s1+s2"][::-1], atol=1e-6)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_probabilities_of_one_class_a_pair_add_up_to_one(features, labels, protocol):
    one_hot = {split: np.eye(3, dtype=np.uint8)[found.argmax(axis=1)] for split, found in labels.items()}
    for probabilities in found_by(protocol, features, one_hot, "multiclass").values():
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
