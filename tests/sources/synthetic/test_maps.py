"""The synthetic world's maps, in its own classes, as far as the shards that the stage writes."""

from functools import partial

import numpy as np

from fusmae.data.shard_writer import Maps, write_shards
from fusmae.data.shards import ShardReader
from fusmae.modalities import BIGEARTHNET, modality_inputs
from fusmae.sources.patches.places import PATCH_M
from fusmae.sources.synthetic.landscape import CLASSES
from fusmae.sources.synthetic.plan import blocks_of
from fusmae.sources.synthetic.scene import LABEL_SHARE, make_scene


def test_labels_are_the_classes_that_cover_a_tenth_of_the_map_and_each_pixel_has_one(made):
    assert made.source.map_classes == CLASSES
    assert len(CLASSES) == 13
    for pair in made.pairs:
        found = made.source.read_map(made.raw, pair)
        assert (found.dtype, found.shape) == (np.uint8, (120, 120))
        assert found.max() < len(CLASSES)
        shares = np.bincount(found.ravel(), minlength=len(CLASSES)) / found.size
        assert pair.labels == tuple(name for name, share in zip(CLASSES, shares, strict=True) if share >= LABEL_SHARE)


def test_maps_and_pixels_of_every_pair_reach_the_shards(made, tmp_path):
    members = [pair for pair in made.pairs if pair.split == "test"]
    maps = Maps(made.source.map_classes, partial(made.source.read_map, made.raw))
    left_out = write_shards(
        members,
        partial(made.source.read, made.raw),
        tmp_path,
        inputs=modality_inputs(BIGEARTHNET, PATCH_M),
        task=made.source.task,
        shard_pairs=5,
        maps=maps,
    )
    assert left_out == []
    reader = ShardReader(tmp_path, "test")
    found = reader.read_maps(range(len(reader)))
    assert reader.map_classes == CLASSES
    for own, pair in zip(found, members, strict=True):
        assert np.array_equal(own, made.source.read_map(made.raw, pair))
    cover = (found[..., None] == np.arange(len(CLASSES))).mean(axis=(1, 2))
    assert np.array_equal(reader.labels, cover >= LABEL_SHARE)


def test_a_map_is_the_ground_that_the_pixels_were_made_from(made):
    block = blocks_of(made.world)[0]
    scene = make_scene(made.world.seed, block)
    pairs = {pair.key: pair for pair in made.pairs}
    for patch in block.patches:
        pair = pairs[patch.s2_name]
        assert np.array_equal(made.source.read(made.raw, pair)["B02"], scene.cut(patch)["B02"])
        codes = patch.cut(scene.corine)
        found = made.source.read_map(made.raw, pair)
        assert len({(int(code), int(own)) for code, own in zip(codes.ravel(), found.ravel(), strict=True)}) == len(
            np.unique(codes)
        )
