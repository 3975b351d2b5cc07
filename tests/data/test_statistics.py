from pathlib import Path

import numpy as np
import pytest

from fusmae.config.task import Task
from fusmae.data.shard_writer import write_shards
from fusmae.data.statistics import (
    measure_statistics,
    read_statistics,
    write_statistics,
)
from fusmae.errors import ShardError


def test_statistics_are_those_of_numpy_over_train_only(statistics, pairs, read_pair, modalities):
    def stored(pair):
        return {band: pixels if band[0] == "B" else pixels.round(2) for band, pixels in read_pair(pair).items()}

    train = [stored(pair) for pair in pairs if pair.split == "train"]
    everything = [stored(pair) for pair in pairs]
    assert list(statistics) == ["s1", "s2"]
    for key, modality in modalities.items():
        assert tuple(statistics[key]) == modality.bands
        for band, found in statistics[key].items():
            pixels = np.stack([bands[band] for bands in train]).astype(np.float64)
            assert found.mean == pytest.approx(pixels.mean(), rel=1e-7)
            assert found.std == pytest.approx(pixels.std(), rel=1e-7)
            assert found.mean != pytest.approx(np.stack([bands[band] for bands in everything]).mean(), rel=1e-9)


def test_nodata_is_in_no_statistics(tmp_path, pairs, read_pair, inputs, classes):
    """0 in all bands of S2 is nodata; 0 in some bands is a value."""

    def read(pair):
        bands = read_pair(pair)
        for item in inputs:
            for name in item.bands:
                if item.modality == "s2":
                    bands[name][: item.side_px // 4] = 0
        bands["B05"][-3:] = 0
        return bands

    train = [pair for pair in pairs if pair.split == "train"]
    write_shards(train, read, tmp_path, inputs=inputs, task=Task(classes=classes), shard_pairs=7)
    found = measure_statistics(tmp_path)["s2"]
    for name, side in (("B02", 24), ("B05", 12), ("B01", 4)):
        pixels = np.stack([read(pair)[name][side // 4 :] for pair in train]).astype(np.float64)
        assert found[name].mean == pytest.approx(pixels.mean(), rel=1e-9)
        assert found[name].std == pytest.approx(pixels.std(), rel=1e-9)


def test_a_small_spread_on_a_large_offset_keeps_its_digits(tmp_path, pairs, read_pair, inputs, classes):
    """The sum of squares minus the squared mean, unshifted, would lose every digit of this spread."""
    made = []

    def read(pair):
        bands = read_pair(pair)
        noise = np.random.default_rng(list(pair.key.encode())).integers(0, 2, (24, 24))
        bands["B02"] = (29_000 + noise).astype(np.uint16)
        made.append(bands["B02"].astype(np.float64))
        return bands

    train = [pair for pair in pairs if pair.split == "train"]
    write_shards(train, read, tmp_path, inputs=inputs, task=Task(classes=classes), shard_pairs=7)
    found = measure_statistics(tmp_path)["s2"]["B02"]
    assert found.mean == pytest.approx(np.stack(made).mean(), rel=1e-14)
    assert found.std == pytest.approx(np.stack(made).std(), rel=1e-9)
    squares = np.mean(np.stack(made).astype(np.float32) ** 2) - np.mean(np.stack(made).astype(np.float32)) ** 2
    assert abs(squares - found.std**2) > 0.1 * found.std**2, "the offset is large enough to tell the two apart"


@pytest.mark.parametrize("value", [-12.3, -0.1])
def test_a_constant_band_is_named(tmp_path, pairs, read_pair, inputs, classes, value):
    def read(pair):
        return read_pair(pair) | {"VH": np.full((24, 24), value, np.float32)}

    train = [pair for pair in pairs if pair.split == "train"]
    write_shards(train, read, tmp_path, inputs=inputs, task=Task(classes=classes), shard_pairs=7)
    with pytest.raises(
        ShardError, match=r"Band VH of s1 is the same in every training pixel(.|\n)*out of data.modalities"
    ):
        measure_statistics(tmp_path)


def test_statistics_come_back_as_they_were_written(tmp_path: Path, statistics):
    write_statistics(tmp_path / "s.json", statistics)
    assert read_statistics(tmp_path / "s.json") == statistics


def test_absent_statistics_say_how_to_make_them(tmp_path: Path):
    with pytest.raises(ShardError, match="dvc repro shard"):
        read_statistics(tmp_path / "s.json")


def test_moments_joined_in_any_grouping_are_those_of_all(tmp_path, pairs, read_pair, inputs, classes):
    for shard_pairs in (1, 5, 17):
        folder = tmp_path / str(shard_pairs)
        write_shards(pairs, read_pair, folder, inputs=inputs, task=Task(classes=classes), shard_pairs=shard_pairs)
    one, five, whole = (measure_statistics(tmp_path / name) for name in ("1", "5", "17"))
    for key, bands in whole.items():
        for band, expected in bands.items():
            for found in (one[key][band], five[key][band]):
                assert found.mean == pytest.approx(expected.mean, rel=1e-12)
                assert found.std == pytest.approx(expected.std, rel=1e-12)


def test_a_shard_without_pairs_changes_nothing(tmp_path, pairs, read_pair, inputs, classes):
    def read(pair):
        return {} if pair.key < "train07" else read_pair(pair)

    write_shards(pairs, read, tmp_path / "some", inputs=inputs, task=Task(classes=classes), shard_pairs=7)
    rest = [pair for pair in pairs if pair.key >= "train07" or pair.split != "train"]
    write_shards(rest, read, tmp_path / "rest", inputs=inputs, task=Task(classes=classes), shard_pairs=7)
    assert measure_statistics(tmp_path / "some") == measure_statistics(tmp_path / "rest")
