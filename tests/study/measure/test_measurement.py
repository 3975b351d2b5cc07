"""What of a variant is measured, and on which resamples."""

import numpy as np
import pytest

from fusmae.data.datamodule import PairDataModule
from fusmae.data.shard_writer import write_shards
from fusmae.errors import ConfigError, StudyError
from fusmae.evaluation.features import CheckpointEncoder
from fusmae.evaluation.neighbours import neighbour_answers
from fusmae.evaluation.probe import fit_probe
from fusmae.study.measure.measurement import Measurement, Opened
from fusmae.study.variants import study_of, variant_config

pytestmark = pytest.mark.usefixtures("_one_thread")


@pytest.fixture
def measure(tiny, tiny_config, tmp_path):
    def make(*overrides, variant="fusmae", seed=1, is_rival=False, data=None):
        config, checkpoint = tiny_config(*overrides), tiny.untrained(variant, seed)
        own = variant_config(config, variant, seed)
        return Measurement(
            study_of(config),
            own.finetune,
            own.runtime,
            Opened("", CheckpointEncoder(checkpoint, "mean"), None if is_rival else checkpoint, False, False, {}),
            seed=seed,
            data=data or tiny.data(),
            pairs=tiny.pairs,
            resume_folder=tmp_path / "resume",
        )

    return make


def names_after(measurement):
    measurement.add_heads(measurement.features())
    measurement.add_trained()
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
        pixels = split.read([split.keys.index(pair.key)])
        return {band: pixels[item.name][0][at] for item in reader.inputs for at, band in enumerate(item.bands)}

    settings = {"inputs": reader.inputs, "task": reader.task, "shard_pairs": 20}
    write_shards(list(tiny.pairs.values()), read, tmp_path / "plain", **settings)
    data = PairDataModule(tmp_path / "plain", batch_size=4, draws=tiny.data().draws)
    assert names_after(measure("study.protocols=[segment]", data=data)) == []


def test_pairs_of_one_acquisition_are_drawn_together(tiny, measure):
    weights = measure().book.weights
    assert weights.shape == (20, 6)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert [column for column in range(2, 6) if (weights[:, column] == weights[:, 0]).all()] == []


def test_resamples_and_clouds_are_those_of_every_variant_and_seed(measure):
    one, other = measure(), measure(variant="s2-only", seed=7)
    assert one.conditions[-1].clouds == other.conditions[-1].clouds
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


def test_a_share_of_the_labels_with_one_class_alone_is_refused_before_anything_is_trained(measure, tiny_of):
    with pytest.raises(StudyError, match=r"nothing can be learned from 0\.01 of the labels") as told:
        measure("study.shares=[0.01, 1.0]", data=tiny_of("multiclass").data())
    assert "1 of 17 training pairs; got:      one class alone" in str(told.value)
    assert "larger study.shares" in str(told.value)


def test_pairs_without_a_value_are_neither_labelled_nor_chosen_by(measure, tiny_of):
    data = tiny_of("value").data()
    for split in ("train", "validation"):
        labels = data.reader(split).labels.copy()
        labels[2] = np.nan
        data.reader(split).labels = labels
    measurement = measure("study.protocols=[knn, probe]", "study.shares=[0.5, 1.0]", data=data)
    assert sorted(measurement.labelled[1.0].tolist()) == [row for row in range(17) if row != 2]
    assert set(measurement.labelled[0.5].tolist()) < set(measurement.labelled[1.0].tolist())
    names_after(measurement)
    assert all(np.isfinite(row.headline) for row in measurement.book.rows)


HEADS = pytest.mark.parametrize("protocol", ["knn", "probe"])


def labelled(measurement):
    """Rows of train whose labels are used at the smaller share: enough for each class to be there and missing."""
    measurement.labelled = {0.2: np.array([0, 1, 2, 3, 5, 8, 13])}
    return measurement.labelled[0.2]


@pytest.fixture
def heads(measure):
    def make(protocol):
        measurement = measure(f"study.protocols=[{protocol}]")
        return measurement, measurement.features(), labelled(measurement)

    return make


def predicted(measurement, features):
    measurement.book.rows.clear()
    measurement.book.predictions.clear()
    measurement.add_heads(features)
    return {name.split("/")[2]: found for name, found in measurement.book.predictions.items()}


@HEADS
def test_every_condition_has_probabilities_of_every_test_pair(heads, protocol):
    measurement, features, _ = heads(protocol)
    found = predicted(measurement, features)
    assert set(found) == {condition.name for condition in measurement.conditions}
    for probabilities in found.values():
        assert probabilities.shape == (6, 4)
        assert ((probabilities >= 0) & (probabilities <= 1)).all()


def test_heads_learn_without_clouds(heads):
    _, features, _ = heads("knn")
    assert set(features["train"]) == set(features["validation"]) == {"s1+s2", "s1", "s2"}
    assert set(features["test"]) == {"s1+s2", "s1", "s2", "s1+clouded s2"}


def test_knn_is_that_of_the_labelled_rows_alone(heads):
    measurement, features, rows = heads("knn")
    known, labels = features["train"]["s2"][rows], measurement.train_labels[rows]
    expected = neighbour_answers(known, labels, features["test"]["s2"], k=3)
    np.testing.assert_array_equal(predicted(measurement, features)["s2"], expected)


def test_a_probe_is_fitted_on_the_labelled_rows_and_chosen_on_all_of_validation(tiny, heads):
    measurement, features, rows = heads("probe")
    probe = fit_probe(
        features["train"]["s1+s2"][rows],
        measurement.train_labels[rows],
        features["validation"]["s1+s2"],
        np.asarray(tiny.data().reader("validation").labels),
        tiny.data().task(),
    )
    expected = probe.predict(features["test"]["s1+clouded s2"])
    np.testing.assert_allclose(predicted(measurement, features)["s1+clouded s2"], expected)


@HEADS
def test_labels_and_features_of_other_rows_are_never_looked_at(heads, protocol):
    measurement, features, rows = heads(protocol)
    expected = predicted(measurement, features)
    others = np.setdiff1d(np.arange(17), rows)
    measurement.train_labels = measurement.train_labels.copy()
    measurement.train_labels[others] = 1 - measurement.train_labels[others]
    for found in features["train"].values():
        found[others] = 1e6
    again = predicted(measurement, features)
    for name, probabilities in expected.items():
        np.testing.assert_array_equal(again[name], probabilities)


@HEADS
def test_one_head_serves_a_setting_whatever_clouds_do(heads, protocol):
    measurement, features, _ = heads(protocol)
    expected = predicted(measurement, features)
    features["test"]["s1+clouded s2"] = features["test"]["s1+s2"][::-1]
    again = predicted(measurement, features)
    np.testing.assert_array_equal(again["s1+s2"], expected["s1+s2"])
    np.testing.assert_allclose(again["s1+clouded s2"], expected["s1+s2"][::-1], atol=1e-6)
