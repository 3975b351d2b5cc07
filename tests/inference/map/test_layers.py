"""What is stored for a map's pixels is what its answers say."""

import numpy as np
import pytest

from fusmae.config.task import Task, Value
from fusmae.inference.map.layers import NODATA, STEP, bands_of, confidence, map_layers, stored, top_class

NAN = float("nan")


def test_confidence_is_one_for_decided_classes_and_zero_for_a_coin():
    assert confidence(np.array([[0.0, 0.5, 0.11], [1.0, 0.5, 0.89]])) == pytest.approx([1, 0, 0.5], abs=1e-3)
    assert np.isnan(confidence(np.array([[np.nan], [np.nan]]))).all()


def test_confidence_of_one_class_per_tile_is_zero_where_all_are_equally_probable():
    shares = np.array([[1.0, 1 / 3, 0.5, NAN], [0.0, 1 / 3, 0.5, NAN], [0.0, 1 / 3, 0.0, NAN]])
    expected = [1, 0, 1 - np.log(2) / np.log(3), NAN]
    assert confidence(shares, is_exclusive=True) == pytest.approx(expected, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_of_equally_probable_classes_the_first_is_the_top_one(dtype):
    answers = np.array([[[0.2, 0.5, 0.0, NAN]], [[0.2, 0.1, 0.0, NAN]], [[0.6, 0.5, 0.0, NAN]]], dtype)
    assert top_class(answers).tolist() == [[[3, 1, 1, 0]]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_probabilities_are_stored_to_the_nearest_step(dtype):
    values = np.array([0, 1, 0.0019, 0.0021, 1 + 1e-6, NAN], dtype)
    assert stored(values).tolist() == [0, 250, 0, 1, 250, NODATA]
    everywhere = np.linspace(0, 1, 5001, dtype=dtype)
    assert np.abs(stored(everywhere) * STEP - everywhere).max() <= STEP / 2 + 1e-6


@pytest.mark.parametrize(
    ("limits", "expected"),
    [({}, [-1, 3, 7]), ({"min": 0}, [0, 3, 7]), ({"max": 5}, [-1, 3, 5]), ({"min": 0, "max": 5}, [0, 3, 5])],
)
def test_values_are_within_the_limits_of_the_quantity(limits, expected):
    layers = map_layers(Task(kind="regression", value=Value(name="height", unit="m", **limits)))
    found = bands_of(layers, np.array([[[-1.0, 3.0, 7.0, NAN]]]))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [[[*expected, NAN]]])


def test_a_segmentation_stores_all_probabilities_only_on_request():
    task = Task(kind="segmentation", classes=("a", "b", "c"))
    answers = np.array([[[0.2]], [[0.7]], [[0.1]]], np.float32)
    assert bands_of(map_layers(task), answers).ravel().tolist() == [2, 175]
    assert bands_of(map_layers(task, has_probabilities=True), answers).ravel().tolist() == [2, 175, 50, 175, 25]


def test_the_first_layer_is_the_map_and_every_other_file_has_a_name_of_its_own():
    classes = ("a", "b")
    for task in (
        Task(classes=classes),
        Task(kind="multiclass", classes=classes),
        Task(kind="segmentation", classes=classes),
        Task(kind="regression", value=Value(name="height")),
    ):
        layers = map_layers(task, has_probabilities=task.kind == "segmentation")
        suffixes = [layer.suffix for layer in layers if layer.suffix is not None]
        assert suffixes[0] == ""
        assert len(set(suffixes)) == len(suffixes)
        assert len({layer.dtype for layer in layers}) == 1
