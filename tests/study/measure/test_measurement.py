"""What of a variant is measured, and on which resamples."""

import numpy as np
import pytest

from fusmae.data.datamodule import PairDataModule
from fusmae.data.shard_writer import write_shards
from fusmae.errors import ConfigError
from fusmae.study.measure.frozen import CheckpointEncoder
from fusmae.study.measure.measurement import Measurement, named_draws
from fusmae.study.variants import variant_config

pytestmark = pytest.mark.usefixtures("_one_thread")


@pytest.fixture
def measure(tiny, tiny_config, tmp_path):
    def make(*overrides, variant="fusmae", is_rival=False, data=None):
        own, checkpoint = variant_config(tiny_config(*overrides), variant, 1), tiny.untrained(variant)
        return Measurement(
            own,
            CheckpointEncoder(checkpoint, "mean"),
            None if is_rival else checkpoint,
            is_scratch=False,
            data=data or tiny.data(),
            pairs=tiny.pairs,
            scratch=tmp_path / "scratch",
        )

    return make


def names_after(measurement):
    measurement.add_heads(measurement.features())
    measurement.add_finetuned()
    measurement.add_maps()
    return [row.name for row in measurement.book.rows]


@pytest.mark.parametrize("protocol", ["knn", "probe", "finetune", "segment"])
def test_a_protocol_that_is_not_asked_for_is_left_out(measure, protocol):
    names = names_after(measure(f"study.protocols=[{protocol}]", "study.shares=[1.0]"))
    assert sorted(names) == sorted(f"{protocol}/1/{name}" for name in ("s1+s2", "s1", "s2", "s1+clouded s2"))


def test_the_first_row_has_every_modality(measure):
    measurement = measure("study.protocols=[knn]")
    assert names_after(measurement)[0] == "knn/0.2/s1+s2"


def test_a_rival_is_frozen_so_that_knn_and_probe_are_all_it_has(measure):
    names = names_after(measure("study.shares=[1.0]", is_rival=True))
    assert {name.split("/")[0] for name in names} == {"knn", "probe"}


def test_without_maps_there_is_nothing_to_segment(tiny, measure, tmp_path):
    reader = tiny.data().reader("test")

    def read(pair):
        split = tiny.data().reader(pair.split)
        pixels = split.read([split.keys.index(pair.key)]).pixels
        return {band: pixels[item.name][0][at] for item in reader.inputs for at, band in enumerate(item.bands)}

    settings = {"inputs": reader.inputs, "classes": reader.classes, "shard_pairs": 20}
    write_shards(list(tiny.pairs.values()), read, tmp_path / "plain", **settings)
    data = PairDataModule(tmp_path / "plain", batch_size=4, draws=named_draws(("s1", "s2"), tiny.config))
    assert names_after(measure("study.protocols=[segment]", data=data)) == []


def test_pairs_of_one_acquisition_are_drawn_together(tiny, measure):
    weights = measure().book.weights
    assert weights.shape == (20, 6)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert [column for column in range(2, 6) if (weights[:, column] == weights[:, 0]).all()] == []


def test_resamples_and_clouds_are_those_of_every_variant_and_seed(tiny, tiny_config, measure, tmp_path):
    one = measure()
    own, checkpoint = variant_config(tiny_config(), "s2-only", 7), tiny.untrained("s2-only", 7)
    other = Measurement(
        own,
        CheckpointEncoder(checkpoint, "mean"),
        checkpoint,
        is_scratch=True,
        data=tiny.data(),
        pairs=tiny.pairs,
        scratch=tmp_path,
    )
    assert one.weather == other.weather
    np.testing.assert_array_equal(one.book.weights, other.book.weights)


def test_classes_in_focus_are_known_by_their_names(tiny, measure):
    one, *_, last = tiny.data().reader("test").classes
    measurement = measure(
        "study.protocols=[knn]", "study.shares=[1.0]", f"study.focus={{about: two, classes: [{last}, {one}]}}"
    )
    assert list(measurement.book.focus) == [3, 0]
    names_after(measurement)
    assert all(len(row.focus_draws) == len(row.draws) == 20 for row in measurement.book.rows)


def test_a_class_in_focus_that_the_data_lacks_is_refused(measure):
    with pytest.raises(ConfigError, match=r"study\.focus") as told:
        measure("study.focus={about: none, classes: [lava]}")
    assert "lava" in str(told.value)


def test_what_reconstructs_nothing_has_no_errors_of_it(measure):
    measurement = measure("study.protocols=[knn]")
    found = measurement.evidence(measurement.features(), None)
    assert found.reconstruction == {}
    assert set(found.retrieval) == {"s1 → s2", "s2 → s1"}


def test_draws_have_a_number_for_every_patch(tiny):
    draws = named_draws(("s1+s2",), tiny.config)
    assert (draws.seed, draws.modalities, draws.num_patches) == (tiny.config.seed, ("s1+s2",), 9)
    assert (draws.modality_drop, draws.augment) == (0.0, None)
