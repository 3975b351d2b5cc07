"""Features of whole splits, under each condition."""

import numpy as np
import pytest
import torch

from fusmae.study.measure.conditions import CloudCover, conditions_of, seen
from fusmae.study.measure.features import collect_features
from fusmae.study.measure.frozen import CheckpointEncoder

pytestmark = pytest.mark.usefixtures("_one_thread")

BOTH = ("s1", "s2")
WEATHER, CPU = CloudCover(seed=0, share=0.6), torch.device("cpu")
SIZES = {"train": 17, "validation": 5, "test": 6}


class Counting:
    """An encoder that counts the pairs that it is asked for, by setting."""

    def __init__(self, encoder):
        self.encoder, self.modalities, self.num_parameters = encoder, encoder.modalities, encoder.num_parameters
        self.pairs = {}

    def features(self, pixels, setting):
        count = len(next(iter(pixels.values())))
        self.pairs[setting] = self.pairs.get(setting, 0) + count
        return self.encoder.features(pixels, setting)

    def to(self, device):
        return self


def collected(tiny, variant="fusmae", batch_size=4):
    encoder = Counting(CheckpointEncoder(tiny.untrained(variant), "mean"))
    conditions = conditions_of(BOTH, encoder.modalities)
    return encoder, collect_features(encoder, tiny.data(batch_size), conditions, WEATHER, CPU)


@pytest.fixture(scope="module")
def both(tiny):
    return collected(tiny)


def test_every_pair_of_every_split_has_features_under_each_condition(both):
    _, features = both
    assert set(features.test) == {"s1+s2", "s1", "s2", "s1+clouded s2"}
    assert set(features.train) == set(features.validation) == {BOTH, ("s1",), ("s2",)}
    for split, count in SIZES.items():
        assert {found.shape for found in getattr(features, split).values()} == {(count, 16)}


@pytest.mark.parametrize("batch_size", [1, 17])
def test_the_batch_size_changes_features_by_rounding_alone(tiny, both, batch_size):
    _, features = both
    _, other = collected(tiny, batch_size=batch_size)
    for split in SIZES:
        for name, found in getattr(features, split).items():
            np.testing.assert_allclose(getattr(other, split)[name], found, atol=1e-5, err_msg=f"{split} {name}")


def test_each_input_that_differs_is_encoded_once(both):
    encoder, _ = both
    clean = sum(SIZES.values())
    assert encoder.pairs == {BOTH: clean + SIZES["test"], ("s1",): clean, ("s2",): clean}


def test_conditions_that_look_alike_to_an_encoder_are_one_to_it(tiny):
    encoder, features = collected(tiny, "s1-only")
    assert encoder.pairs == {("s1",): sum(SIZES.values())}
    assert set(features.test) == {"s1+s2", "s1", "s1+clouded s2"}
    assert features.test["s1+clouded s2"] is features.test["s1+s2"]


def test_rows_are_in_the_order_of_their_split_and_train_has_no_clouds(tiny, both):
    encoder, features = both
    for split, found in (("train", features.train[BOTH]), ("test", features.test["s1+s2"])):
        for row in (0, 3, 5):
            alone = next(tiny.data().batches(split, [row]))
            np.testing.assert_allclose(encoder.encoder.features(alone.pixels, BOTH)[0], found[row], atol=1e-5)


def test_under_clouds_features_are_of_the_clouded_pixels(tiny, both):
    encoder, features = both
    clouded = conditions_of(BOTH, BOTH)[-1]
    batch = next(tiny.data(6).batches("test", range(6)))
    expected = encoder.encoder.features(seen(batch, clouded, WEATHER), BOTH)
    np.testing.assert_allclose(features.test["s1+clouded s2"], expected, atol=1e-5)
    assert np.abs(features.test["s1+clouded s2"] - features.test["s1+s2"]).max() > 1e-3
