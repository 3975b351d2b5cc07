import json
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest

from fusmae.data.shards import ShardReader, write_shards
from fusmae.errors import PairError, ShardError, StorageError

SPLITS = ("train", "validation", "test")


@pytest.fixture
def copied(shards: Path, tmp_path: Path) -> Path:
    """Shards that a test may damage."""
    return copytree(shards, tmp_path / "shards")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("split", SPLITS)
def test_every_pixel_comes_back_bit_by_bit_under_its_band_name(shards, pairs, read_pair, inputs, split):
    members = [pair for pair in pairs if pair.split == split]
    reader = ShardReader(shards, split)
    assert reader.keys == [pair.key for pair in members]
    assert len(reader) == len(members)
    found = reader.read(range(len(reader))).pixels
    assert list(found) != []
    for row, pair in enumerate(members):
        bands = read_pair(pair)
        for item in inputs:
            assert found[item.name].dtype == (np.float32 if item.modality == "s1" else np.uint16)
            for channel, band in enumerate(item.bands):
                assert found[item.name][row, channel].tobytes() == bands[band].tobytes()
    assert sorted(found) == sorted(item.name for item in inputs)


def test_labels_stand_in_the_order_of_classes(shards, pairs, classes):
    reader = ShardReader(shards, "train")
    members = [pair for pair in pairs if pair.split == "train"]
    expected = [[int(name in pair.labels) for name in classes] for pair in members]
    assert reader.classes == classes
    assert reader.labels.tolist() == expected
    assert reader.read([5, 3]).labels.tolist() == [expected[5], expected[3]]
    assert not reader.labels[:, classes.index("ice")].any()


def test_a_pair_without_labels_is_a_row_of_zeros(tmp_path, pairs, read_pair, inputs, classes):
    write_shards(
        [replace(pairs[0], labels=())], read_pair, tmp_path / "s", inputs=inputs, classes=classes, shard_pairs=9
    )
    assert ShardReader(tmp_path / "s", "train").labels.tolist() == [[0, 0, 0, 0]]


def test_arrays_are_memory_mapped_and_read_only(shards):
    reader = ShardReader(shards, "train")
    arrays = [array for shard in reader._arrays for array in shard.values()]
    assert len(arrays) == 3 * 5
    assert all(isinstance(array, np.memmap) and array.mode == "r" for array in arrays)


def test_pairs_come_in_the_order_asked_across_shards(shards):
    reader = ShardReader(shards, "train")
    assert [len(shard["labels"]) for shard in reader._arrays] == [7, 7, 3]
    whole = reader.read(range(17))
    order = [*np.random.default_rng(0).permutation(17).tolist(), 16, 0, 0, 6, 7]
    found = reader.read(order)
    for name, array in found.pixels.items():
        assert np.array_equal(array, whole.pixels[name][order])
    assert np.array_equal(found.labels, whole.labels[order])


def test_a_gathered_batch_can_be_changed_without_changing_the_shard(shards):
    reader = ShardReader(shards, "validation")
    batch = reader.read([0, 1]).pixels["s1_10m"]
    before = batch.copy()
    batch[:] = 0
    assert np.array_equal(reader.read([0, 1]).pixels["s1_10m"], before)


@pytest.mark.parametrize("index", [17, 1000])
def test_an_index_beyond_the_split_is_no_pair(shards, index):
    with pytest.raises(IndexError):
        ShardReader(shards, "train").read([index])


def test_a_second_write_gives_the_same_bytes(tmp_path, shards, pairs, read_pair, inputs, classes):
    again = tmp_path / "again"
    for _ in range(2):
        write_shards(pairs, read_pair, again, inputs=inputs, classes=classes, shard_pairs=7)
        assert contents(again) == contents(shards)


def test_progress_sees_every_shard(tmp_path, pairs, read_pair, inputs, classes):
    plans = []

    def progress(plan):
        plans.append(len(plan))
        return iter(plan)

    write_shards(pairs, read_pair, tmp_path, inputs=inputs, classes=classes, shard_pairs=7, progress=progress)
    assert plans == [3 + 1 + 1]


def test_nothing_partial_is_left(shards):
    assert [path for path in shards.rglob("*") if path.name.startswith(".")] == []


def files_of(shards: Path) -> list[str]:
    return sorted(contents(shards))


def test_a_flipped_bit_in_any_file_is_refused_and_the_file_is_named(copied):
    """In the middle of every file, and at ten places of each manifest."""
    refused = 0
    for name, content in contents(copied).items():
        split = name.split("/")[0] if "/" in name else "train"
        places = range(0, len(content), len(content) // 10) if name.endswith(".json") else [len(content) // 2]
        for place in places:
            damaged = bytearray(content)
            damaged[place] ^= 1
            (copied / name).write_bytes(damaged)
            with pytest.raises(ShardError) as raised:
                ShardReader(copied, split)
            assert str(copied / name) in str(raised.value)
            refused += 1
        (copied / name).write_bytes(content)
        ShardReader(copied, split)
    assert refused > 5 * 6 + 6 * 9


@pytest.mark.parametrize("name", ["train/00001/s2_20m.npy", "train/00002/manifest.json"])
def test_an_absent_file_is_named(copied, name):
    (copied / name).unlink()
    with pytest.raises(ShardError, match=name):
        ShardReader(copied, "train")


def test_a_truncated_file_is_named(copied):
    file = copied / "train/00000/s1_10m.npy"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ShardError, match=r"train/00000/s1_10m\.npy"):
        ShardReader(copied, "train")


def test_other_splits_are_not_read(copied):
    (copied / "test/00000/s1_10m.npy").unlink()
    assert len(ShardReader(copied, "train")) > 0


def test_absent_shards_say_how_to_make_them(tmp_path):
    with pytest.raises(ShardError, match=r"manifest\.json is not there.\n  next:     dvc repro shard"):
        ShardReader(tmp_path, "train")


def test_another_format_is_named(copied):
    file = copied / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 99}))
    with pytest.raises(ShardError, match=r"another shard format.\n  got:      99\n  expected: 1"):
        ShardReader(copied, "train")


def test_an_empty_split_is_named(tmp_path, pairs, read_pair, inputs, classes):
    train = [pair for pair in pairs if pair.split == "train"]
    write_shards(train, read_pair, tmp_path, inputs=inputs, classes=classes, shard_pairs=7)
    with pytest.raises(ShardError, match=r"Split test in .* is empty"):
        ShardReader(tmp_path, "test")


def test_a_pair_that_can_not_be_used_is_named_and_leaves_no_manifest(tmp_path, pairs, read_pair, inputs, classes):
    def read(pair):
        bands = read_pair(pair)
        if pair.key == "train09":
            bands["B05"] = bands["B05"] / 10_000
        return bands

    with pytest.raises(PairError, match="Pair train09, band B05"):
        write_shards(pairs, read, tmp_path, inputs=inputs, classes=classes, shard_pairs=7)
    assert [path.name for path in (tmp_path / "train").iterdir()] == ["00000"]
    with pytest.raises(ShardError, match="There are no shards"):
        ShardReader(tmp_path, "train")


def test_a_full_disk_keeps_the_shards_that_stood_there(small_disk, pairs, read_pair, inputs, classes):
    folder = small_disk / "shards"

    def write(members, shard_pairs):
        write_shards(members, read_pair, folder, inputs=inputs, classes=classes, shard_pairs=shard_pairs)

    write(pairs, 7)
    before = contents(folder)
    with pytest.raises(StorageError) as raised:
        write([replace(pairs[0], key=f"{number}") for number in range(150)], 150)
    assert f"The disk is full: {folder / 'train/00000'} could not be written" in str(raised.value)
    assert f"MB free in {folder / 'train'}" in str(raised.value)
    assert contents(folder) == before
    assert len(ShardReader(folder, "train")) == 17
