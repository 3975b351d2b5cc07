"""The examination of labels of every kind: maps of classes, one class per pair, values per pair and per pixel."""

import json
from collections.abc import Callable
from dataclasses import replace
from shutil import rmtree

import numpy as np
import pytest

from fusmae.config.task import Task
from fusmae.data.index import SPLITS
from fusmae.data.pixels import NO_CLASS
from fusmae.data.shard_writer import Maps, write_shards
from fusmae.examination.examine import Diagnosis, examine_data, examine_index
from fusmae.reports.examination import write_report
from fusmae.sources.shared.source import Facts

SIDE_PX = 24
NAMES = ("water", "forest", "town")
HEIGHT = {"name": "height", "unit": "m", "min": 0.0}
MAPPED = Task(kind="segmentation", classes=NAMES)
ONE_CLASS = Task(kind="multiclass", classes=NAMES)
PER_TILE = Task(kind="regression", value=HEIGHT)
PER_PIXEL = Task(kind="regression", value={**HEIGHT, "per": "pixel"})

Diagnose = Callable[..., Diagnosis]


@pytest.fixture
def diagnose(tmp_path, pairs, read_pair, inputs) -> Diagnose:
    """Shards the tiny dataset with labels of a task, and examines it against an index, the same by default."""

    def run(task, change=lambda pair: replace(pair, labels=()), *, read_map=None, index=None, facts=None) -> Diagnosis:
        sharded, folder = [change(pair) for pair in pairs], tmp_path / "shards"
        # Finished shards of the same pairs would be kept, whatever the maps are now.
        rmtree(folder, ignore_errors=True)
        maps = Maps(task.classes, read_map) if read_map else None
        write_shards(sharded, read_pair, folder, inputs=inputs, task=task, shard_pairs=7, maps=maps)
        return examine_data(index or sharded, task, facts or Facts(), shards=folder, tolerated={})

    return run


def check_of(diagnosis: Diagnosis, name: str):
    return next(check for check in diagnosis.checks if check.name == name)


def number_of(pair) -> int:
    return int(pair.key[-2:])


def columns(*numbers: float, dtype: str = "uint8") -> np.ndarray:
    return np.repeat(np.array(numbers, dtype), SIDE_PX // len(numbers))[None].repeat(SIDE_PX, axis=0)


def classes_map(pair) -> np.ndarray:
    """A quarter water, and a half forest, or in test pairs of an even number town; a quarter has no class."""
    second = 2 if pair.split == "test" and number_of(pair) % 2 == 0 else 1
    return columns(0, second, second, NO_CLASS)


# Maps of classes


def test_classes_of_maps_are_counted_by_pairs_and_by_pixels(diagnose, tmp_path):
    diagnosis = diagnose(MAPPED, read_map=classes_map)
    assert not diagnosis.blocks
    assert diagnosis.class_counts["water"] == {"train": 17, "validation": 5, "test": 6}
    assert diagnosis.class_counts["town"] == {"train": 0, "validation": 0, "test": 3}
    assert diagnosis.pixel_shares["water"] == dict.fromkeys(SPLITS, 0.25)
    assert diagnosis.pixel_shares["town"] == {"train": 0, "validation": 0, "test": 0.25}
    write_report(tmp_path / "out", diagnosis, title="tiny", is_synthetic=False)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["classes"]["forest"] == {"train": 17, "validation": 5, "test": 3}
    assert report["pixel_shares"]["forest"]["test"] == 0.25
    assert "values" not in report
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "classes that cover at least 1 % of its map" in page
    assert '<span class="quiet">25 %</span>' in page


def test_a_class_that_no_map_of_train_has_is_named(diagnose):
    check = check_of(diagnose(MAPPED, read_map=classes_map), "classes")
    assert (check.status, check.found, check.got) == ("warns", 1, "no pair in train: “town”")


def test_maps_of_one_class_in_train_block(diagnose):
    diagnosis = diagnose(
        MAPPED, read_map=lambda pair: columns(1, NO_CLASS) if pair.split == "train" else classes_map(pair)
    )
    check = check_of(diagnosis, "labels")
    assert (check.status, check.found) == ("blocks", 17)
    assert "17 pairs which are all of train and have one class “forest” only" in check.got
    assert "bring others, or other splits" in check.hint


def test_before_shards_there_are_no_classes_of_maps_to_count(pairs):
    bare = [replace(pair, labels=()) for pair in pairs]
    (check,) = (check for check in examine_index(bare, MAPPED, Facts()) if check.name == "classes")
    assert (check.status, check.got) == ("skipped", "maps have the classes: they are counted in the shards")


def test_labels_that_the_index_states_beside_maps_are_compared_with_these(diagnose):
    assert check_of(diagnose(MAPPED, read_map=classes_map), "maps").got == (
        "no label is stated beside those of the maps"
    )
    right = diagnose(MAPPED, lambda pair: replace(pair, labels=("water",)), read_map=lambda pair: columns(0, 0, 0, 1))
    assert check_of(right, "maps").status == "passed"
    assert check_of(right, "labels").passed  # those of the shards are the maps', and none of the index's
    wrong = diagnose(MAPPED, lambda pair: replace(pair, labels=("town",)), read_map=classes_map)
    check = check_of(wrong, "maps")
    # In three test pairs a half of the map is town.
    assert (check.status, check.found) == ("blocks", 25)


def test_pairs_without_labels_beside_the_map_contradict_nothing(diagnose):
    diagnosis = diagnose(
        MAPPED,
        lambda pair: replace(pair, labels=("water",) if number_of(pair) % 2 else ()),
        read_map=lambda pair: columns(0, 0, 0, 1),
    )
    assert check_of(diagnosis, "maps").status == "passed"


def test_a_map_without_any_class_is_left_out_and_blocks(diagnose):
    diagnosis = diagnose(MAPPED, read_map=lambda pair: columns(NO_CLASS) if pair.key == "train03" else columns(0, 1))
    check = check_of(diagnosis, "labels")
    assert (check.status, check.examples) == ("blocks", ("train03",))
    assert "1 pair left out: Pair train03: no pixel of the map has a class." in check.got


# One class per pair


def one_class(pair):
    return replace(pair, labels=(NAMES[number_of(pair) % 2],))


def test_one_class_per_pair_is_counted_and_compared_with_maps(diagnose):
    right = diagnose(ONE_CLASS, one_class, read_map=lambda pair: columns(*[number_of(pair) % 2] * 3, 2))
    assert right.class_counts["water"]["train"] == 9
    assert check_of(right, "maps").status == "passed"
    assert check_of(right, "labels").passed
    wrong = diagnose(ONE_CLASS, one_class, read_map=lambda pair: columns(1 - number_of(pair) % 2))
    assert check_of(wrong, "maps").found == 28


def test_one_class_in_train_blocks(diagnose):
    check = check_of(
        diagnose(ONE_CLASS, lambda pair: one_class(pair) if pair.split == "test" else replace(pair, labels=("town",))),
        "labels",
    )
    assert (check.status, check.found) == ("blocks", 17)
    assert "have one class “town” only" in check.got


def test_pairs_without_any_class_are_enough_to_pretrain(diagnose):
    diagnosis = diagnose(ONE_CLASS)
    assert not diagnosis.blocks


# Values


def with_value(number: Callable[..., float | None]):
    return lambda pair: replace(pair, labels=(), value=number(pair))


def test_values_per_pair_are_described_by_split(diagnose, tmp_path):
    diagnosis = diagnose(PER_TILE, with_value(lambda pair: float(number_of(pair))))
    assert not diagnosis.blocks
    assert diagnosis.class_counts == {}
    write_report(tmp_path / "out", diagnosis, title="tiny", is_synthetic=False)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["classes"] == {}
    assert report["values"]["train"] == {
        "count": 17,
        "mean": 8.0,
        "std": pytest.approx(np.arange(17).std()),
        "min": 0.0,
        "max": 16.0,
    }
    assert report["values"]["test"]["mean"] == 2.5
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "height (m), one number per pair." in page
    assert "Histogram of height (m) in validation: mean 2" in page
    assert page.count("<svg") == 7 + 3


def heights(pair) -> np.ndarray:
    return columns(0, number_of(pair), 2 * number_of(pair), np.nan, dtype="float32")


def test_values_per_pixel_are_described_without_pixels_that_have_none(diagnose):
    diagnosis = diagnose(PER_PIXEL, read_map=heights)
    assert not diagnosis.blocks
    train = diagnosis.values.by_split["train"]
    numbers = np.array([[0, number, 2 * number] for number in range(17)])
    assert (train.count, train.lowest, train.highest) == (17 * 18 * 24, 0, 32)
    assert (train.mean, train.std) == (pytest.approx(numbers.mean()), pytest.approx(numbers.std()))
    edges = diagnosis.values.edges
    expected, _ = np.histogram(numbers, edges)
    np.testing.assert_allclose(train.histogram / train.histogram.sum(), expected / expected.sum(), atol=0.07)


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        (PER_TILE, {"change": with_value(lambda _: 7.0)}),
        (PER_PIXEL, {"read_map": lambda _: columns(7, dtype="float32")}),
    ],
)
def test_one_value_in_train_blocks(diagnose, task, changes):
    check = check_of(diagnose(task, **changes), "labels")
    assert (check.status, check.found) == ("blocks", 17)
    assert "17 pairs which are all of train and have one height 7 only" in check.got


@pytest.mark.parametrize("task", [PER_TILE, PER_PIXEL])
def test_values_of_test_beyond_those_of_train_warn(diagnose, task):
    def number(pair) -> float:
        return number_of(pair) + (100 if pair.split == "test" else 0)

    diagnosis = (
        diagnose(task, with_value(number))
        if task is PER_TILE
        else diagnose(task, read_map=lambda pair: columns(number(pair), dtype="float32"))
    )
    check = check_of(diagnosis, "classes")
    assert (check.status, check.found) == ("warns", 1)
    assert check.got == "train 0 to 16, validation 0 to 4, test 100 to 105 m; none of test lies in train's range"


def test_a_value_that_differs_between_index_and_shards_is_named(diagnose, pairs):
    stated = [replace(pair, labels=(), value=float(number_of(pair))) for pair in pairs]
    moved = [replace(pair, value=pair.value + 1) if pair.key == "train05" else pair for pair in stated]
    diagnosis = diagnose(PER_TILE, with_value(lambda pair: float(number_of(pair))), index=moved)
    check = check_of(diagnosis, "labels")
    assert (check.status, check.examples) == ("blocks", ("train05",))
    assert "1 pair with another value in the shards than the index states: train05 has 5, stated is 6" in check.got


def test_a_map_whose_mean_is_not_the_value_that_the_index_states_is_named(diagnose):
    right = diagnose(PER_PIXEL, with_value(lambda pair: float(number_of(pair))), read_map=heights)
    assert check_of(right, "labels").passed
    check = check_of(diagnose(PER_PIXEL, with_value(lambda _: 3.0), read_map=heights), "labels")
    assert check.found == 28 - 3  # three pairs have the number 3
    assert "with another mean of the map in the shards than the index states" in check.got


def test_pairs_without_any_value_are_enough_to_pretrain(diagnose):
    diagnosis = diagnose(PER_TILE)
    assert not diagnosis.blocks
    assert "without labels: enough to pretrain" in check_of(diagnosis, "classes").got
    assert diagnosis.to_json()["values"]["train"] == {"count": 0, "mean": None, "std": None, "min": None, "max": None}
