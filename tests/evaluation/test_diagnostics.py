"""What an encoder knows without labels."""

import pytest
import torch

from fusmae.evaluation.conditions import conditions_of
from fusmae.evaluation.diagnostics import (
    cross_modal_retrieval,
    mean_errors,
    reconstruction,
    reconstruction_errors,
    retrieval,
    target_band_means,
)
from fusmae.evaluation.features import CheckpointEncoder, features_of
from fusmae.models.preprocess import Preprocess

pytestmark = pytest.mark.usefixtures("_one_thread")

CPU = torch.device("cpu")
BOTH = ("s1", "s2")
NAMES = {"fusmae": BOTH, "fusmae-consistent": BOTH, "s1-only": ("s1",), "stack": ("s1+s2",)}


def opened(tiny, variant):
    checkpoint = tiny.untrained(variant)
    return checkpoint.autoencoder(), Preprocess(checkpoint.preprocessing)


def whole(tiny, split, names):
    count = len(tiny.data().reader(split))
    return next(tiny.data(count, names).batches(split, range(count)))


@pytest.mark.parametrize("variant", NAMES)
def test_reconstruction_batch_by_batch_is_that_of_the_whole_test_set_at_once(tiny, variant):
    names = NAMES[variant]
    model, preprocess = opened(tiny, variant)
    train, test = (whole(tiny, split, names) for split in ("train", "test"))
    with torch.no_grad():
        means = target_band_means(model, [preprocess(train.only(names))])
        errors = reconstruction_errors(model, preprocess(test.only(names)), test.noise, means)
    found = reconstruction(tiny.untrained(variant), tiny.data(4, names), CPU)
    assert tuple(found) == names
    for name, by_way in found.items():
        assert set(by_way) == {"model", "band mean", "nearest"}
        assert by_way == pytest.approx(mean_errors(errors[name]), rel=1e-4)
        assert min(by_way.values()) > 0.1


@pytest.fixture
def features(tiny):
    def collect(variant, readout="mean"):
        encoder = CheckpointEncoder(tiny.untrained(variant), readout)
        conditions = conditions_of(BOTH, encoder.modalities)
        return features_of(encoder, tiny.data(), "test", conditions, CPU), encoder.modalities

    return collect


def test_retrieval_goes_both_ways_between_tiles_that_are_encoded_alone(features):
    found, modalities = features("fusmae")
    both_ways = retrieval(found, modalities)
    assert both_ways == {
        "s1 → s2": cross_modal_retrieval(found["s1"], found["s2"]),
        "s2 → s1": cross_modal_retrieval(found["s2"], found["s1"]),
    }
    assert both_ways["s1 → s2"]["candidates"] == 6
    assert both_ways["s1 → s2"]["chance@1"] == pytest.approx(1 / 6)


def test_retrieval_compares_each_sensors_own_part_of_a_readout_that_has_one_for_each(features):
    found, modalities = features("fusmae", "concat")
    one, other = found["s1"][:, :16], found["s2"][:, 16:]
    assert retrieval(found, modalities) == {
        "s1 → s2": cross_modal_retrieval(one, other),
        "s2 → s1": cross_modal_retrieval(other, one),
    }


@pytest.mark.parametrize("variant", ["s1-only", "s2-only"])
def test_one_sensor_retrieves_nothing(features, variant):
    assert retrieval(*features(variant)) == {}
