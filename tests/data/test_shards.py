import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest

from fusmae.config.task import Task
from fusmae.data.shard_writer import write_shards
from fusmae.data.shards import LeftOut, Origin, PairReader, ShardFolder, ShardReader
from fusmae.errors import ShardError, StorageError
from fusmae.modalities import BandGroup, Modality, modality_inputs

SPLITS = ("train", "validation", "test")


@pytest.fixture
def copied(shards: Path, tmp_path: Path) -> Path:
    """Shards that a test may damage."""
    return copytree(shards, tmp_path / "shards")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("split", SPLITS)
def test_every_dn_comes_back_exactly_and_every_db_to_half_a_step(shards, pairs, read_pair, inputs, split):
    members = [pair for pair in pairs if pair.split == split]
    reader = ShardReader(shards, split)
    assert reader.keys == [pair.key for pair in members]
    assert len(reader) == len(members)
    found = reader.read(range(len(reader)))
    assert list(found) != []
    for row, pair in enumerate(members):
        bands = read_pair(pair)
        for item in inputs:
            assert found[item.name].dtype == (np.float32 if item.modality == "s1" else np.uint16)
            for channel, band in enumerate(item.bands):
                error = np.abs(found[item.name][row, channel].astype(np.float64) - bands[band].astype(np.float64))
                assert error.max() <= ((item.unit.step or 0) / 2 + 1e-5 * (item.unit.step is not None))
    assert sorted(found) == sorted(item.name for item in inputs)


def test_labels_stand_in_the_order_of_classes(shards, pairs, classes):
    reader = ShardReader(shards, "train")
    members = [pair for pair in pairs if pair.split == "train"]
    expected = [[int(name in pair.labels) for name in classes] for pair in members]
    assert reader.classes == classes
    assert reader.labels.tolist() == expected
    assert reader.labels[[5, 3]].tolist() == [expected[5], expected[3]]
    assert not reader.labels[:, classes.index("ice")].any()


def test_a_pair_without_labels_is_a_row_of_zeros(tmp_path, pairs, read_pair, inputs, classes):
    write_shards(
        [replace(pairs[0], labels=())],
        read_pair,
        tmp_path / "s",
        inputs=inputs,
        task=Task(classes=classes),
        shard_pairs=9,
    )
    assert ShardReader(tmp_path / "s", "train").labels.tolist() == [[0, 0, 0, 0]]


def test_a_shard_is_an_array_that_numpy_opens(shards, pairs):
    records = np.load(shards / "train/00000/pixels.npy", mmap_mode="r")
    assert len(records) == 7
    assert records["s2_20m"].shape == (7, 1, 12, 12)
    assert np.array_equal(records["s2_20m"], ShardReader(shards, "train").read(range(7))["s2_20m"])


def test_a_shard_alone_gives_what_the_split_gives(shards):
    paths, reader = ShardFolder(shards).paths("train"), ShardReader(shards, "train")
    second = PairReader([paths[1]])
    assert second.keys == reader.keys[7:14]
    found, expected = second.read([3, 0]), reader.read([10, 7])
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    assert np.array_equal(second.labels[[3, 0]], reader.labels[[10, 7]])
    assert [path.parent.name for path in ShardFolder(shards).paths()] == ["train"] * 3 + ["validation", "test"]


def test_few_files_are_open_however_many_shards_there_are(tmp_path, pairs, read_pair, inputs, classes, monkeypatch):
    monkeypatch.setattr("fusmae.data.shards._OPEN_FILES", 2)
    write_shards(pairs, read_pair, tmp_path, inputs=inputs, task=Task(classes=classes), shard_pairs=1)
    before = len(list(Path("/proc/self/fd").iterdir()))
    reader = ShardReader(tmp_path, "train")
    whole = reader.read(range(17))
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2
    for index in (0, 16, 3, 0):
        assert np.array_equal(reader.read([index])["s1_10m"][0], whole["s1_10m"][index])
    del reader
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_copied_reader_opens_its_files_anew(shards):
    reader = ShardReader(shards, "train")
    before = reader.read([5])["s1_10m"]
    assert np.array_equal(deepcopy(reader).read([5])["s1_10m"], before)


def test_a_file_that_ends_early_is_refused_where_it_is_read_unverified(copied):
    reader = ShardReader(copied, "train", verify=False)
    file = copied / "train/00000/pixels.npy"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ShardError, match=r"train/00000/pixels\.npy is wrong(.|\n)*at record 6"):
        reader.read([6])


def test_pairs_come_in_the_order_asked_across_shards(shards):
    reader = ShardReader(shards, "train")
    assert [len(PairReader([path])) for path in ShardFolder(shards).paths("train")] == [7, 7, 3]
    whole = reader.read(range(17))
    order = [*np.random.default_rng(0).permutation(17).tolist(), 16, 0, 0, 6, 7]
    found = reader.read(order)
    for name, array in found.items():
        assert np.array_equal(array, whole[name][order])


def test_a_gathered_batch_can_be_changed_without_changing_the_shard(shards):
    reader = ShardReader(shards, "validation")
    batch = reader.read([0, 1])["s1_10m"]
    before = batch.copy()
    batch[:] = 0
    assert np.array_equal(reader.read([0, 1])["s1_10m"], before)


@pytest.mark.parametrize("index", [17, 1000, -1])
def test_an_index_beyond_the_split_is_no_pair(shards, index):
    with pytest.raises(IndexError):
        ShardReader(shards, "train").read([index])


def test_a_second_write_gives_the_same_bytes(tmp_path, shards, pairs, read_pair, inputs, classes):
    again = tmp_path / "again"
    for _ in range(2):
        write_shards(pairs, read_pair, again, inputs=inputs, task=Task(classes=classes), shard_pairs=7)
        assert contents(again) == contents(shards)


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
    assert refused > 5 * 2 + 6 * 9


@pytest.mark.parametrize("name", ["train/00001/labels.npy", "train/00001/pixels.npy", "train/00002/manifest.json"])
def test_an_absent_file_is_named(copied, name):
    (copied / name).unlink()
    with pytest.raises(ShardError, match=name):
        ShardReader(copied, "train")


def test_a_truncated_file_is_named(copied):
    file = copied / "train/00000/pixels.npy"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ShardError, match=r"train/00000/pixels\.npy"):
        ShardReader(copied, "train")


def test_other_splits_are_not_read(copied):
    (copied / "test/00000/pixels.npy").unlink()
    assert len(ShardReader(copied, "train")) > 0


def test_absent_shards_say_how_to_make_them(tmp_path):
    with pytest.raises(ShardError, match=r"manifest\.json is not there.\n  next:     dvc repro shard"):
        ShardReader(tmp_path, "train")


def test_another_format_is_named(copied):
    file = copied / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 99}))
    with pytest.raises(ShardError, match=r"another shard format.\n  got:      99\n  expected: 3"):
        ShardReader(copied, "train")


def test_an_empty_split_is_named(tmp_path, pairs, read_pair, inputs, classes):
    train = [pair for pair in pairs if pair.split == "train"]
    write_shards(train, read_pair, tmp_path, inputs=inputs, task=Task(classes=classes), shard_pairs=7)
    with pytest.raises(ShardError, match=r"Split test in .* is empty"):
        ShardReader(tmp_path, "test")


def test_a_pair_that_can_not_be_used_is_left_out_and_listed(tmp_path, pairs, read_pair, inputs, classes):
    def read(pair):
        bands = read_pair(pair)
        if pair.key == "train09":
            bands["B05"] = bands["B05"] / 10_000
        return bands

    left_out = write_shards(pairs, read, tmp_path, inputs=inputs, task=Task(classes=classes), shard_pairs=7)
    assert [(item.key, item.fault) for item in left_out] == [("train09", "units")]
    assert "Pair train09, band B05: not digital numbers" in left_out[0].problem
    assert ShardFolder(tmp_path).left_out == left_out
    assert isinstance(left_out[0], LeftOut)
    reader = ShardReader(tmp_path, "train")
    expected = [pair for pair in pairs if pair.split == "train" and pair.key != "train09"]
    assert reader.keys == [pair.key for pair in expected]
    assert reader.labels.tolist() == [[int(name in pair.labels) for name in classes] for pair in expected]


def test_a_shard_of_pairs_that_can_all_not_be_used_is_empty(tmp_path, pairs, read_pair, inputs, classes):
    def read(pair):
        return {} if pair.split == "test" else read_pair(pair)

    write_shards(pairs, read, tmp_path, inputs=inputs, task=Task(classes=classes), shard_pairs=7)
    assert len(PairReader(ShardFolder(tmp_path).paths("test"))) == 0
    with pytest.raises(ShardError, match="Split test"):
        ShardReader(tmp_path, "test")


def test_a_full_disk_keeps_the_shards_that_stood_there(small_disk, pairs, read_pair, inputs, classes):
    folder = small_disk / "shards"

    def write(members, shard_pairs):
        write_shards(members, read_pair, folder, inputs=inputs, task=Task(classes=classes), shard_pairs=shard_pairs)

    write(pairs, 7)
    before = contents(folder)
    with pytest.raises(StorageError) as raised:
        write([replace(pairs[0], key=f"{number}") for number in range(150)], 150)
    assert f"The disk is full: {folder / 'train/00000'} could not be written" in str(raised.value)
    assert f"MB free in {folder / 'train'}" in str(raised.value)
    assert contents(folder) == before
    assert len(ShardReader(folder, "train")) == 17


def test_a_pair_of_many_arrays_is_read_in_as_many_calls_as_the_kernel_wants(tmp_path, pairs):
    modalities = {
        "s1": Modality(units="dB", groups=tuple(BandGroup(gsd_m=gsd, bands=(f"V{gsd}",)) for gsd in (1, 2, 3, 4, 6))),
        "s2": Modality(units="DN", groups=tuple(BandGroup(gsd_m=gsd, bands=(f"B{gsd}",)) for gsd in (1, 2, 3, 4, 6))),
    }
    inputs = modality_inputs(modalities, 12)
    many = [replace(pairs[0], key=f"{number:03d}") for number in range(300)]

    def read(pair):
        value = 100 + int(pair.key)
        return {
            band: np.full((item.side_px,) * 2, value if item.units == "DN" else -1 - value / 100, np.float32)
            for item in inputs
            for band in item.bands
        }

    write_shards(many, read, tmp_path, inputs=inputs, task=Task(classes=("water", "forest")), shard_pairs=300)
    found = ShardReader(tmp_path, "train").read(range(300))
    assert len(found) == 10
    assert np.array_equal(found["s2_2m"][:, 0, 0, 0], 100 + np.arange(300))
    assert np.allclose(found["s1_6m"][:, 0, 0, 0], -2 - np.arange(300) / 100)


def test_shards_say_where_they_come_from_and_whether_that_is_made_up(tmp_path, pairs, read_pair, inputs, classes):
    origin = Origin("synthetic", "made up by nobody", is_synthetic=True)
    write_shards(pairs, read_pair, tmp_path, inputs=inputs, task=Task(classes=classes), shard_pairs=7, origin=origin)
    found = ShardReader(tmp_path, "train").origin
    assert found == ShardFolder(tmp_path).origin == origin
    assert found.described.startswith("synthetic: made up by nobody. SYNTHETIC data")
    assert Origin("sample", "CDLA").described == "sample: CDLA."
