"""Single tiles of the shards, as torchgeo's data sets give them."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from fusmae.config.task import Task
from fusmae.data.dataset import open_shards
from fusmae.data.pixels import NO_CLASS
from fusmae.data.shard_writer import Maps, write_shards
from fusmae.data.shards import ShardReader
from fusmae.errors import ShardError
from fusmae.modalities import map_side_px


def test_a_sample_has_an_image_per_modality_on_its_finest_grid_labels_and_key(shards, classes):
    samples, reader = open_shards(shards, "train"), ShardReader(shards, "train")
    assert len(samples) == len(reader) == 17
    assert samples.classes == classes
    assert samples.bands == {"s1": ("VV", "VH"), "s2": ("B02", "B03", "B04", "B05", "B01")}
    sample, stored = samples[11], reader.read([11])
    assert set(sample) == {"image_s1", "image_s2", "label", "key"}
    assert sample["image_s1"].dtype == sample["image_s2"].dtype == torch.float32
    np.testing.assert_array_equal(sample["image_s1"], stored["s1_10m"][0])
    np.testing.assert_array_equal(sample["image_s2"][:3], stored["s2_10m"][0].astype(np.float32))
    # Each coarse pixel is repeated.
    np.testing.assert_array_equal(sample["image_s2"][3, ::2, ::2], stored["s2_20m"][0, 0])
    np.testing.assert_array_equal(sample["image_s2"][3, 1::2, 1::2], stored["s2_20m"][0, 0])
    np.testing.assert_array_equal(sample["image_s2"][4, 5::6, 3::6], stored["s2_60m"][0, 0])
    np.testing.assert_array_equal(sample["label"], reader.labels[11])
    assert (sample["label"].dtype, sample["key"]) == (torch.int64, reader.keys[11])


def test_a_land_cover_map_is_the_mask(pairs, read_pair, inputs, classes, tmp_path):
    side = map_side_px(inputs)
    made = np.full((side, side), 1, np.uint8)
    made[0] = NO_CLASS
    maps = Maps(("water", "land"), lambda pair: made)
    write_shards(
        pairs, read_pair, tmp_path / "shards", inputs=inputs, task=Task(classes=classes), shard_pairs=7, maps=maps
    )
    samples = open_shards(tmp_path / "shards", "test")
    assert samples.map_classes == ("water", "land")
    mask = samples[0]["mask"]
    assert mask.dtype == torch.int64
    np.testing.assert_array_equal(mask, made)


def test_transforms_change_a_sample(shards):
    def brighter(sample):
        return sample | {"image_s2": sample["image_s2"] + 1}

    changed, plain = (open_shards(shards, "test", transforms)[0] for transforms in (brighter, None))
    assert torch.equal(changed["image_s2"], plain["image_s2"] + 1)


def test_torch_s_own_loader_makes_batches_of_it(shards):
    batch = next(iter(DataLoader(open_shards(shards, "validation"), batch_size=3)))
    assert batch["image_s2"].shape == (3, 5, 24, 24)
    assert batch["label"].shape == (3, 4)
    assert len(batch["key"]) == 3


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_worker_processes_read_the_same_tiles(shards, start):
    samples = open_shards(shards, "test")
    loader = DataLoader(samples, batch_size=4, num_workers=1, multiprocessing_context=start)
    found = torch.cat([batch["image_s2"] for batch in loader])
    assert torch.equal(found, torch.stack([sample["image_s2"] for sample in map(samples.__getitem__, range(6))]))


def test_places_are_counted_as_in_a_list(shards):
    samples = open_shards(shards, "test")
    assert samples[-1]["key"] == samples[len(samples) - 1]["key"]
    with pytest.raises(IndexError):
        samples[len(samples)]


def test_there_are_three_splits(shards):
    with pytest.raises(ShardError, match=r"no split 'val'(?s:.*)train or validation or test"):
        open_shards(shards, "val")
