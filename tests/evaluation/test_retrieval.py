import numpy as np
import pytest

from fusmae.evaluation.diagnostics import cross_modal_retrieval


@pytest.fixture
def features() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(200, 16)).astype(np.float32)


def test_identical_features_find_one_another(features):
    found = cross_modal_retrieval(features, features)
    assert found == {"recall@1": 1, "recall@5": 1, "chance@1": 1 / 200, "chance@5": 5 / 200, "candidates": 200}


def test_unrelated_features_are_near_chance(features):
    found = cross_modal_retrieval(features, np.random.default_rng(1).normal(size=(200, 16)))
    assert found["recall@1"] < 0.03
    assert found["recall@5"] < 0.08


def test_features_without_content_are_at_chance(features):
    assert cross_modal_retrieval(features, np.zeros_like(features))["recall@1"] == 1 / 200


def test_the_distance_between_the_sensors_does_not_matter(features):
    cone = np.zeros(16)
    cone[0] = 100
    assert cross_modal_retrieval(features + cone, features - cone)["recall@1"] == 1


def test_rows_of_the_first_side_look_among_those_of_the_second(features):
    one, other = features[:20], features[:20] + 2 * features[20:40]
    centred = [side - side.mean(axis=0) for side in (one, other)]
    unit = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in centred]
    similarities = unit[0] @ unit[1].T
    there = (similarities.argmax(axis=1) == range(20)).mean()
    back = (similarities.argmax(axis=0) == range(20)).mean()
    assert cross_modal_retrieval(one, other)["recall@1"] == pytest.approx(there)
    assert cross_modal_retrieval(other, one)["recall@1"] == pytest.approx(back)
    assert there != back


def test_as_many_answers_as_candidates_are_certain(features):
    found = cross_modal_retrieval(features[:4], features[4:8])
    assert (found["recall@5"], found["chance@5"], found["candidates"]) == (1, 1, 4)
