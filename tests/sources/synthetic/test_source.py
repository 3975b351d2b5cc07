from collections import Counter

import numpy as np
import pytest
import rasterio

from fusmae.data.index import validate_index
from fusmae.data.pixels import stack_bands
from fusmae.errors import SourceError
from fusmae.modalities import BIGEARTHNET, modality_inputs
from fusmae.sources.patches.nomenclature import CLASSES
from fusmae.sources.patches.places import PATCH_M
from fusmae.sources.shared.source import Source
from fusmae.sources.synthetic.landscape import COVERS
from fusmae.sources.synthetic.scene import LABEL_SHARE
from fusmae.sources.synthetic.source import SyntheticSource


def test_it_is_a_source_and_says_that_it_is_synthetic():
    source: Source = SyntheticSource(50, 0)
    assert source.is_synthetic
    assert source.name == "synthetic"
    assert "made up" in source.licence


def test_classes_are_some_of_bigearthnets_in_its_order():
    ours = SyntheticSource(50, 0).task.classes
    assert list(ours) == [name for name in CLASSES if name in ours]


def test_index_is_valid_and_whole(made):
    validate_index(made.pairs, made.source.task)
    assert len(made.pairs) == made.world.num_pairs
    assert [pair.key for pair in made.pairs] == sorted(pair.key for pair in made.pairs)


def test_pairs_are_as_the_world_states(made):
    facts = made.source.facts(made.raw)
    assert facts.counts == Counter(pair.split for pair in made.pairs)
    assert facts.s2_offset == 0
    labels = {pair.key: pair.labels for pair in made.pairs}
    assert facts.labels
    assert {key: labels[key] for key in facts.labels} == facts.labels


def test_facts_need_no_raw_data(made, tmp_path):
    assert made.source.facts(tmp_path / "absent") == made.source.facts(made.raw)


def test_every_class_is_in_every_split(made):
    for split in ("train", "validation", "test"):
        found = {name for pair in made.pairs if pair.split == split for name in pair.labels}
        assert found == set(made.source.task.classes)


def test_labels_are_the_classes_that_cover_a_tenth_of_the_reference_map(made):
    for pair in made.pairs[::4]:
        folder = made.raw / pair.files["s2"].replace("BigEarthNet-S2", "Reference_Maps")
        with rasterio.open(folder / f"{pair.key}_reference_map.tif") as dataset:
            codes = dataset.read(1)
        shares = {name: (codes == cover.corine).mean() for name, cover in COVERS.items()}
        assert sum(shares.values()) == pytest.approx(1)
        assert set(pair.labels) == {name for name, share in shares.items() if share >= LABEL_SHARE}


def test_every_pair_passes_the_checks_of_pixels(made):
    for pair in made.pairs:
        inputs = modality_inputs(BIGEARTHNET, PATCH_M)
        arrays = stack_bands(pair.key, made.source.read(made.raw, pair), inputs)
        for item in inputs:
            assert arrays[item.name].shape == (len(item.bands), item.side_px, item.side_px)


def test_fetch_names_what_makes_the_world(made):
    identity = made.source.fetch(made.raw.parent, made.raw)
    assert identity == {"synthetic": "seed=7 num_pairs=60 version=3"}


def test_another_seeds_folder_is_not_read(made):
    with pytest.raises(SourceError, match=r"(?s)does not hold the whole synthetic world.*seed=7.*seed=8"):
        SyntheticSource(60, 8).pairs(made.raw)


def test_levels_are_those_of_published_products(made):
    bands = [made.source.read(made.raw, pair) for pair in made.pairs if not (pair.is_cloudy or pair.is_snowy)]
    means = {name: float(np.mean([found[name].mean(dtype=np.float64) for found in bands])) for name in bands[0]}
    # BigEarthNet's own: VV -12.6, VH -19.3; B02 430, B04 590, B08 2219, B11 1594.
    assert -15 < means["VV"] < -10
    assert -22 < means["VH"] < -16
    assert 300 < means["B02"] < 1000
    assert 1500 < means["B08"] < 3000
    assert 1200 < means["B11"] < 2800
