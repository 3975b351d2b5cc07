"""Land-cover maps beside the pixels of a pair, from the writer to a batch."""

import json
import re
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from fusmae.config.task import Task
from fusmae.data.datamodule import Draws, PairDataModule
from fusmae.data.pixels import NO_CLASS
from fusmae.data.shard_writer import Maps, write_shards
from fusmae.data.shards import ShardReader
from fusmae.errors import PairError, ShardError
from fusmae.modalities import BandGroup, Modality, map_side_px, modality_inputs

MAP_CLASSES = ("grass", "rock", "sea")
SIDE_PX = 24


def made_map(pair) -> np.ndarray:
    random = np.random.default_rng(list(pair.key.encode()))
    return random.choice([0, 1, 2, NO_CLASS], (SIDE_PX, SIDE_PX)).astype(np.uint8)


Write = Callable[..., list]


@pytest.fixture
def write(pairs, read_pair, inputs, classes) -> Write:
    """Writes the tiny dataset's shards, with maps unless told otherwise."""

    def run(folder: Path, maps: Maps | None = Maps(MAP_CLASSES, made_map)) -> list:  # noqa: B008
        return write_shards(
            pairs, read_pair, folder, inputs=inputs, task=Task(classes=classes), shard_pairs=7, maps=maps
        )

    return run


@pytest.fixture
def mapped(tmp_path, write) -> Path:
    write(tmp_path / "mapped")
    return tmp_path / "mapped"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def make_data(folder: Path, **settings) -> PairDataModule:
    draws = Draws(0, ("s1", "s2"), 9)
    return PairDataModule(folder, batch_size=4, draws=draws, **settings)


def test_every_map_comes_back_exactly_in_the_order_asked_across_shards(mapped, pairs):
    members = [pair for pair in pairs if pair.split == "train"]
    reader = ShardReader(mapped, "train")
    assert reader.map_classes == MAP_CLASSES
    order = [16, 0, 0, 6, 7, *range(17)]
    found = reader.read_maps(order)
    assert (found.dtype, found.shape) == (np.uint8, (22, SIDE_PX, SIDE_PX))
    for own, index in zip(found, order, strict=True):
        assert np.array_equal(own, made_map(members[index]))


def test_maps_are_an_array_that_numpy_opens(mapped):
    stored = np.load(mapped / "train/00001/maps.npy", mmap_mode="r")
    assert (stored.dtype, stored.shape) == (np.uint8, (7, SIDE_PX, SIDE_PX))
    assert np.array_equal(stored, ShardReader(mapped, "train").read_maps(range(7, 14)))


def test_maps_change_nothing_else_in_the_shards(mapped, shards):
    with_maps, without = contents(mapped), contents(shards)
    names = {name for name in with_maps if not name.endswith("maps.npy")}
    assert names == set(without)
    assert all(with_maps[name] == without[name] for name in names if name.endswith(".npy"))


def test_shards_without_maps_have_no_classes_of_them_and_say_so(shards):
    reader = ShardReader(shards, "train")
    assert reader.map_classes == ()
    with pytest.raises(ShardError, match="have no maps"):
        reader.read_maps([0])


def test_a_second_write_gives_the_same_bytes_and_keeps_what_is_finished(mapped, write, tmp_path):
    before, times = contents(mapped), {path: path.stat().st_mtime_ns for path in mapped.glob("*/*/maps.npy")}
    write(mapped)
    assert contents(mapped) == before
    assert {path: path.stat().st_mtime_ns for path in times} == times
    write(tmp_path / "again")
    assert contents(tmp_path / "again") == before


@pytest.mark.parametrize("maps", [None, Maps(("rock", "grass", "sea"), made_map)])
def test_a_shard_of_other_map_classes_or_none_is_written_again(mapped, write, tmp_path, maps):
    write(mapped, maps)
    write(tmp_path / "anew", maps)
    assert contents(mapped) == contents(tmp_path / "anew")


def test_a_damaged_map_is_refused_by_name_and_written_again(mapped, write):
    before = contents(mapped)
    file = mapped / "train/00001/maps.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"\x63")
    with pytest.raises(ShardError, match=r"train/00001/maps\.npy is wrong"):
        ShardReader(mapped, "train")
    write(mapped)
    assert contents(mapped) == before


def test_an_absent_map_file_is_named(mapped):
    (mapped / "train/00002/maps.npy").unlink()
    with pytest.raises(ShardError, match=r"train/00002/maps\.npy"):
        ShardReader(mapped, "train")


def test_a_map_file_that_ends_early_is_refused_where_it_is_read_unverified(mapped):
    reader = ShardReader(mapped, "train", verify=False)
    file = mapped / "train/00000/maps.npy"
    file.write_bytes(file.read_bytes()[:-1])
    assert reader.read_maps([5]).shape == (1, SIDE_PX, SIDE_PX)
    with pytest.raises(ShardError, match=r"train/00000/maps\.npy is wrong(.|\n)*at record 6"):
        reader.read_maps([6])


def test_shards_of_the_format_before_are_refused(mapped):
    file = mapped / "manifest.json"
    stored = json.loads(file.read_text())
    file.write_text(
        json.dumps({name: value for name, value in stored.items() if name != "map_classes"} | {"format": 2})
    )
    with pytest.raises(ShardError, match=r"another shard format.\n  got:      2\n  expected: 3"):
        ShardReader(mapped, "train")


@pytest.mark.parametrize(
    ("damage", "fault", "text"),
    [
        (lambda own: own[:12, :12], "grid", r"another size(.|\n)*\(12, 12\)(.|\n)*\(24, 24\) px at 10 m"),
        (lambda own: np.where(own == 1, 3, own), "labels", r"numbers of no class(.|\n)*3 in \d+ px"),
    ],
)
def test_a_pair_whose_map_can_not_be_used_is_left_out(tmp_path, write, pairs, damage, fault, text):
    def read(pair):
        return damage(made_map(pair)) if pair.key == "train09" else made_map(pair)

    (left_out,) = write(tmp_path, Maps(MAP_CLASSES, read))
    assert (left_out.key, left_out.fault) == ("train09", fault)
    assert re.search(text, left_out.problem)
    reader = ShardReader(tmp_path, "train")
    expected = [pair for pair in pairs if pair.split == "train" and pair.key != "train09"]
    assert reader.keys == [pair.key for pair in expected]
    assert np.array_equal(reader.read_maps(range(16)), [made_map(pair) for pair in expected])


def test_a_pair_without_a_map_is_left_out(tmp_path, write):
    def read(pair):
        if pair.key == "test03":
            raise PairError("incomplete", "no map of test03")
        return made_map(pair)

    (left_out,) = write(tmp_path, Maps(MAP_CLASSES, read))
    assert (left_out.key, left_out.fault, left_out.problem) == ("test03", "incomplete", "no map of test03")


def test_a_map_has_the_10_m_grid_whatever_grids_the_bands_have():
    group = partial(BandGroup, bands=("B05",))
    assert map_side_px(modality_inputs({"s2": Modality(units="DN", groups=(group(gsd_m=20),))}, 240)) == 24
    assert map_side_px(modality_inputs({"s2": Modality(units="DN", groups=(group(gsd_m=5),))}, 240)) == 24


def test_batches_have_the_maps_of_their_pairs_if_asked(mapped):
    data, reader = make_data(mapped, with_maps=True, num_workers=2), ShardReader(mapped, "train")
    batches = list(data.train_dataloader())
    assert len(batches) == 4
    for batch in batches:
        assert batch.maps.dtype == torch.uint8
        assert np.array_equal(batch.maps.numpy(), reader.read_maps(batch.indices.tolist()))
    few = next(iter(make_data(mapped, with_maps=True, train_rows=[8, 3, 12, 16]).train_dataloader()))
    assert set(few.indices.tolist()) == {8, 3, 12, 16}
    assert np.array_equal(few.maps.numpy(), reader.read_maps(few.indices.tolist()))
    assert data.first("test", 2).maps.shape == (2, SIDE_PX, SIDE_PX)


def test_batches_have_no_maps_and_read_none_unless_asked(mapped, monkeypatch):
    monkeypatch.delattr(ShardReader, "read_maps")
    assert [batch.maps for batch in make_data(mapped).train_dataloader()] == [None] * 4


def test_asking_for_maps_of_shards_without_any_is_refused(shards):
    with pytest.raises(ShardError, match="have no maps"):
        next(iter(make_data(shards, with_maps=True).train_dataloader()))


def test_pinning_takes_maps_along_and_does_without_them(mapped, monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(self.data_ptr()) or self.clone())
    batch = make_data(mapped, with_maps=True).first("train", 2)
    assert torch.equal(batch.pinned().maps, batch.maps)
    assert batch.maps.data_ptr() in pinned
    assert batch._replace(maps=None).pinned().maps is None


def test_a_copied_reader_reads_the_same_maps(mapped):
    reader = ShardReader(mapped, "train")
    before = reader.read_maps([5])
    assert np.array_equal(deepcopy(reader).read_maps([5]), before)
