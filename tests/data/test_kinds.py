"""Labels of every kind on their way from the index to the shards: what is refused, and what shards hold."""

from dataclasses import replace

import numpy as np
import pytest

from fusmae.config.task import Task, Value
from fusmae.data.index import read_index, validate_index, write_index
from fusmae.data.pixels import NO_CLASS, check_map, check_value_map, classes_in
from fusmae.data.shard_writer import Maps, write_shards
from fusmae.data.shards import ShardReader
from fusmae.errors import PairError

HEIGHT = Value(name="height", unit="m", min=0.0, max=100.0)
ONE_CLASS = Task(kind="multiclass", classes=("water", "forest"))
PER_TILE = Task(kind="regression", value=HEIGHT)
PER_PIXEL = Task(kind="regression", value=HEIGHT.model_copy(update={"per": "pixel"}))
MAPPED = Task(kind="segmentation", classes=("water", "forest"))


def with_labels(pairs, label):
    return [replace(pair, labels=label(number)) for number, pair in enumerate(pairs)]


def with_values(pairs, value):
    return [replace(pair, labels=(), value=value(number)) for number, pair in enumerate(pairs)]


# The index


def test_one_class_per_pair_or_none_in_all_is_valid(pairs):
    assert validate_index(with_labels(pairs, lambda number: (ONE_CLASS.classes[number % 2],)), ONE_CLASS) is None
    assert validate_index(with_labels(pairs, lambda _: ()), ONE_CLASS) is None


@pytest.mark.parametrize("labels", [(), ("water", "forest")])
def test_a_pair_with_another_number_of_classes_is_named(pairs, labels):
    wrong = with_labels(pairs, lambda number: labels if number == 3 else (ONE_CLASS.classes[number % 2],))
    with pytest.raises(PairError, match=r"1 of 28 pairs don't have one class(.|\n)*train03"):
        validate_index(wrong, ONE_CLASS)


def test_one_class_in_all_of_train_is_refused(pairs):
    alone = with_labels(pairs, lambda number: ("water",) if number < 17 else ("forest",))
    with pytest.raises(PairError, match=r"17 of 28 pairs are all of train and have one class, water"):
        validate_index(alone, ONE_CLASS)


def test_a_number_for_each_pair_or_for_none_is_valid(pairs):
    assert validate_index(with_values(pairs, float), PER_TILE) is None
    assert validate_index(with_values(pairs, lambda _: None), PER_TILE) is None


def test_a_pair_without_a_number_and_one_number_in_all_of_train_are_refused(pairs):
    with pytest.raises(PairError, match=r"1 of 28 pairs have no height(.|\n)*train05"):
        validate_index(with_values(pairs, lambda number: None if number == 5 else float(number)), PER_TILE)
    with pytest.raises(PairError, match=r"17 of 28 pairs are all of train and have one height"):
        validate_index(with_values(pairs, lambda number: 7.0 if number < 17 else 8.0), PER_TILE)


def test_classes_in_a_regression_are_refused(pairs):
    with pytest.raises(PairError, match="labels outside the class table"):
        validate_index(pairs, PER_TILE)


def test_values_come_back_from_the_index_and_those_of_older_tables_are_unknown(tmp_path, pairs):
    import pandas as pd

    path = tmp_path / "index.parquet"
    write_index(with_values(pairs, lambda number: number / 3 if number % 2 else None), path)
    found = {pair.key: pair.value for pair in read_index(path)}
    assert (found["train01"], found["train02"]) == (1 / 3, None)
    pd.read_parquet(path).drop(columns="value").to_parquet(path)
    assert {pair.value for pair in read_index(path)} == {None}


# Maps


def test_numbers_of_no_class_are_counted():
    pixels = np.array([[0, 1, NO_CLASS], [7, 7, 9], [1, 1, 1]], np.uint8)
    with pytest.raises(PairError, match=r"Pair a: the map has numbers of no class\.\n  got:      7 in 2 px, 9 in 1 px"):
        check_map("a", pixels, 3, 2)
    assert check_map("a", np.where(pixels > 6, NO_CLASS, pixels), 3, 2).dtype == np.uint8


def test_a_class_is_present_where_it_covers_a_hundredth_of_the_pixels_that_have_one():
    pixels = np.full((20, 20), NO_CLASS, np.uint8)
    pixels[:10] = 0
    pixels[0, :2] = 1
    assert classes_in("a", pixels, 3).tolist() == [1, 1, 0]
    pixels[0, 1] = 0
    assert classes_in("a", pixels, 3).tolist() == [1, 0, 0]
    with pytest.raises(PairError, match="no pixel of the map has a class"):
        classes_in("a", np.full((4, 4), NO_CLASS, np.uint8), 3)


def test_values_that_are_not_finite_are_none():
    pixels = np.array([[1, np.nan], [np.inf, 100]])
    found = check_value_map("a", pixels, 2, HEIGHT)
    np.testing.assert_array_equal(found, np.array([[1, np.nan], [np.nan, 100]], np.float32))
    with pytest.raises(PairError, match="no pixel of the map has a value"):
        check_value_map("a", pixels * np.nan, 2, HEIGHT)


@pytest.mark.parametrize(("number", "got"), [(-3.5, "-3.5"), (100.5, "100.5")])
def test_a_value_beyond_the_limits_is_counted(number, got):
    with pytest.raises(PairError, match=rf"numbers that height can't have\.\n  got:      1 of 4, such as {got}"):
        check_value_map("a", np.array([[1, 2], [3, number]]), 2, HEIGHT)


# Shards


def test_shards_of_maps_hold_the_classes_of_each_as_its_labels(pairs, read_pair, inputs, tmp_path):
    def read_map(pair):
        return np.where(np.arange(24)[None] < 12, int(pair.key[-1]) % 2, NO_CLASS).repeat(24, axis=0).astype(np.uint8)

    bare = with_labels(pairs, lambda _: ())
    write_shards(
        bare, read_pair, tmp_path, inputs=inputs, task=MAPPED, shard_pairs=7, maps=Maps(MAPPED.classes, read_map)
    )
    reader = ShardReader(tmp_path, "test")
    assert reader.task == MAPPED
    assert reader.labels.tolist() == [[1, 0], [0, 1]] * 3
    assert reader.has_labels


def test_shards_of_values_hold_numbers_and_nan(pairs, read_pair, inputs, tmp_path):
    write_shards(with_values(pairs, float), read_pair, tmp_path, inputs=inputs, task=PER_TILE, shard_pairs=7)
    reader = ShardReader(tmp_path, "test")
    assert (reader.labels.dtype, reader.labels.ravel().tolist()) == (np.float32, [22.0, 23, 24, 25, 26, 27])
    assert not reader.has_maps
    bare = with_values(pairs, lambda _: None)
    write_shards(bare, read_pair, tmp_path / "bare", inputs=inputs, task=PER_TILE, shard_pairs=7)
    assert not ShardReader(tmp_path / "bare", "test").has_labels


def test_shards_of_values_per_pixel_hold_the_mean_of_each_map(pairs, read_pair, inputs, tmp_path):
    def read_map(pair):
        made = np.full((24, 24), int(pair.key[-1]), np.float32)
        made[:12] = np.nan
        return made

    bare = with_values(pairs, lambda _: None)
    write_shards(bare, read_pair, tmp_path, inputs=inputs, task=PER_PIXEL, shard_pairs=7, maps=Maps((), read_map))
    reader = ShardReader(tmp_path, "test")
    assert reader.labels.ravel().tolist() == [0, 1, 2, 3, 4, 5]
    assert reader.read_maps([4]).dtype == np.float32
    np.testing.assert_array_equal(reader.read_maps([4])[0], read_map(replace(pairs[0], key="test04")))
