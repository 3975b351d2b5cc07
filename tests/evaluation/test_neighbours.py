import numpy as np
import pytest

from fusmae.evaluation.neighbours import neighbour_answers

EAST, NORTH, WEST = [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]


def test_the_same_direction_is_nearest_whatever_its_length():
    found = neighbour_answers(np.array([EAST, NORTH]), np.array([[1, 0], [0, 1]]), np.array([[9.0, 0.1]]), k=1)
    assert found.tolist() == [[1.0, 0.0]]


def test_probabilities_are_the_neighbours_labels_weighed_by_inverse_cosine_distance():
    train, labels = np.array([EAST, NORTH, WEST]), np.array([[1, 0], [1, 1], [0, 1]])
    angle = np.radians(30)
    found = neighbour_answers(train, labels, np.array([[np.cos(angle), np.sin(angle)]]), k=2)
    near, far = 1 / (1 - np.cos(angle)), 1 / (1 - np.sin(angle))
    np.testing.assert_allclose(found, [[1, far / (near + far)]], rtol=1e-6)


def test_fewer_rows_than_neighbours_are_all_used():
    train, labels = np.array([EAST, NORTH, WEST]), np.eye(3)
    found = neighbour_answers(train, labels, np.array([[0.0, 2.0]]), k=20)
    assert found.shape == (1, 3)
    assert found.argmax() == 1
    few = neighbour_answers(train[:1], labels[:1], np.array([[0.3, 2.0]]), k=20)
    assert few.tolist() == [[1.0, 0.0, 0.0]]


def test_features_of_no_length_give_numbers():
    train = np.array([[0.0, 0.0], EAST, NORTH])
    found = neighbour_answers(train, np.eye(3), np.array([[0.0, 0.0], EAST]), k=3)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_one_hot_labels_give_probabilities_that_sum_to_one():
    random = np.random.default_rng(0)
    labels = np.eye(4)[random.integers(4, size=50)]
    features = (labels @ random.normal(size=(4, 8)) + 0.1 * random.normal(size=(50, 8))).astype(np.float32)
    found = neighbour_answers(features[:40], labels[:40], features[40:])
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    assert (found.argmax(axis=1) == labels[40:].argmax(axis=1)).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_row_that_is_its_own_neighbour_counts_for_it_alone(dtype):
    features = np.random.default_rng(0).normal(size=(6, 5)).astype(dtype)
    found = neighbour_answers(features, np.eye(6), features)
    np.testing.assert_allclose(found, np.eye(6), atol=1e-3)
