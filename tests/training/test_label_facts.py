"""Weights of classes and moments of values, and what can't be learned at all."""

import numpy as np
import pytest

from fusmae.config.task import Task
from fusmae.data.pixels import NO_CLASS
from fusmae.data.shards import ShardReader
from fusmae.errors import TrainingError
from fusmae.training.label_facts import class_weights, positive_weights, require_labels, value_moments
from tests.kinds import CLASSES, HIGH, LOW, TASKS


class Labels:
    """What label facts read of a split: labels of tiles, and maps."""

    def __init__(self, task: Task, labels, maps=None) -> None:
        self.task, self.labels, self._maps = task, np.asarray(labels), maps
        kind = self.labels.dtype.kind
        self.has_labels = bool(np.isfinite(self.labels).any() if kind == "f" else self.labels.any())

    def __len__(self) -> int:
        return len(self.labels)

    def read_maps(self, rows):
        return self._maps[list(rows)]


def one_hot(*numbers):
    return np.eye(3, dtype=np.uint8)[list(numbers)]


def test_weights_are_inverse_to_how_many_pairs_have_a_class_and_1_on_average():
    found = class_weights(Labels(TASKS["multiclass"], one_hot(*[0] * 6, *[1] * 3, 2)))
    assert found == pytest.approx(np.array([1 / 6, 1 / 3, 1]) * 3 / (1 / 6 + 1 / 3 + 1))
    assert found.mean() == pytest.approx(1)


def test_weights_of_maps_are_inverse_to_the_pixels_of_a_class_over_all_batches():
    maps = np.full((150, 2, 2), NO_CLASS, np.uint8)
    maps[:100, 0] = 0
    maps[100:, 0, 0] = 1
    found = class_weights(Labels(TASKS["segmentation"], one_hot(*[0] * 100, *[1] * 50), maps))
    assert found[:2] == pytest.approx(np.array([1 / 200, 1 / 50]) * 2 / (1 / 200 + 1 / 50))
    assert found[2] == 1


def test_a_rare_class_has_ten_times_the_weight_at_most_and_an_absent_one_1():
    task = Task(kind="multiclass", classes=tuple("abcdefghijklmnop"))
    labels = np.eye(16, dtype=np.uint8)[[*np.repeat(np.arange(14), 10_000), 14]]
    found = class_weights(Labels(task, labels))
    assert found[14] == 10
    assert found[15] == 1
    assert (found[:14] > 0).all()


def test_a_pair_with_a_class_weighs_as_much_as_those_without_it_within_limits():
    labels = np.zeros((40, 3), np.uint8)
    labels[:10, 0], labels[:30, 1] = 1, 1
    assert positive_weights(Labels(TASKS["multilabel"], labels)).tolist() == [3, 1, 1]
    labels[:, 0] = [1] + [0] * 39
    assert positive_weights(Labels(TASKS["multilabel"], labels))[0] == 10


def test_moments_of_tiles_are_those_of_their_values():
    numbers = np.random.default_rng(0).normal(70, 9, (50, 1)).astype(np.float32)
    numbers[3] = np.nan
    expected = np.nanmean(numbers, dtype=np.float64), np.nanstd(numbers, dtype=np.float64)
    assert value_moments(Labels(TASKS["tile value"], numbers)) == pytest.approx(expected)


def test_moments_of_maps_are_those_of_all_pixels_that_have_a_value():
    maps = np.random.default_rng(0).normal(1e4, 1, (130, 5, 5)).astype(np.float32)
    maps[:, 0], maps[7] = np.nan, np.nan
    found = value_moments(Labels(TASKS["pixel value"], maps[:, 1, :1], maps))
    assert found == pytest.approx((np.nanmean(maps, dtype=np.float64), np.nanstd(maps, dtype=np.float64)))


@pytest.mark.parametrize(("kind", "low"), [("tile value", LOW), ("pixel value", LOW)])
def test_moments_of_written_shards_are_in_the_unit_of_the_value(kind_shards, kind, low):
    mean, std = value_moments(ShardReader(kind_shards(kind), "train"))
    assert low < mean < HIGH
    assert 0 < std <= (HIGH - low) / 2 + 1e-9


@pytest.mark.parametrize(
    ("labels", "got", "expected"),
    [
        (Labels(TASKS["multilabel"], np.zeros((4, 3), np.uint8)), "no pair of train has a label", "two classes"),
        (Labels(TASKS["tile value"], np.full((4, 1), np.nan)), "no pair of train has a label", "numbers of regression"),
        (Labels(TASKS["multiclass"], one_hot(1, 1, 1)), "one class alone, bright", "labels, of two classes or more"),
        (Labels(TASKS["segmentation"], one_hot(0, 0)), "one class alone, dark", "labels, of two classes or more"),
    ],
)
def test_labels_from_which_nothing_can_be_learned_are_refused(labels, got, expected):
    with pytest.raises(TrainingError) as raised:
        require_labels(labels)
    text = str(raised.value)
    assert got in text
    assert expected in text
    assert "fusmae update" in text


def test_labels_of_each_kind_are_taken(kind_shards):
    for name in TASKS:
        require_labels(ShardReader(kind_shards(name), "train"))
    # One class that some tiles have and others lack can be learned.
    require_labels(Labels(Task(classes=CLASSES), [[1, 0, 0], [0, 0, 0]]))


def test_values_that_are_all_the_same_are_refused():
    with pytest.raises(TrainingError, match="All training values of biomass are 7: nothing to learn"):
        value_moments(Labels(TASKS["tile value"], np.full((4, 1), 7.0)))


def test_zero_may_be_one_of_the_values():
    assert value_moments(Labels(TASKS["tile value"], np.array([[0.0], [2.0]]))) == (1.0, 1.0)
