"""A frozen encoder as a function from pixels to features, and the features of whole splits."""

import numpy as np
import pytest
import torch

from fusmae.errors import CheckpointError
from fusmae.evaluation.conditions import Clouds, conditions_of, seen
from fusmae.evaluation.features import CheckpointEncoder, features_of
from fusmae.models.heads import pool
from fusmae.models.preprocess import Preprocess
from fusmae.training.checkpoint import part_of

pytestmark = pytest.mark.usefixtures("_one_thread")

BOTH = ("s1", "s2")
CPU = torch.device("cpu")
CLOUDS = Clouds(seed=0, share=0.6)
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
    conditions = conditions_of(BOTH, encoder.modalities, CLOUDS)
    return encoder, {split: features_of(encoder, tiny.data(batch_size), split, conditions, CPU) for split in SIZES}


@pytest.fixture(scope="module")
def both(tiny):
    return collected(tiny)


def test_every_pair_of_every_split_has_features_under_each_condition(both):
    _, features = both
    for split, count in SIZES.items():
        assert set(features[split]) == {"s1+s2", "s1", "s2", "s1+clouded s2"}
        assert {found.shape for found in features[split].values()} == {(count, 16)}


@pytest.mark.parametrize("batch_size", [1, 17])
def test_the_batch_size_changes_features_by_rounding_alone(tiny, both, batch_size):
    _, features = both
    _, other = collected(tiny, batch_size=batch_size)
    for split in SIZES:
        for name, found in features[split].items():
            np.testing.assert_allclose(other[split][name], found, atol=1e-5, err_msg=f"{split} {name}")


def test_each_input_that_differs_is_encoded_once(both):
    encoder, _ = both
    every = sum(SIZES.values())
    assert encoder.pairs == {BOTH: 2 * every, ("s1",): every, ("s2",): every}


def test_conditions_that_look_alike_to_an_encoder_are_one_to_it(tiny):
    encoder, features = collected(tiny, "s1-only")
    assert encoder.pairs == {("s1",): sum(SIZES.values())}
    assert set(features["test"]) == {"s1+s2", "s1", "s1+clouded s2"}
    assert features["test"]["s1+clouded s2"] is features["test"]["s1+s2"]


def test_rows_are_in_the_order_of_their_split(tiny, both):
    encoder, features = both
    for split in ("train", "test"):
        found = features[split]["s1+s2"]
        for row in (0, 3, 5):
            alone = next(tiny.data().batches(split, [row]))
            np.testing.assert_allclose(encoder.encoder.features(alone.pixels, BOTH)[0], found[row], atol=1e-5)


def test_under_clouds_features_are_of_the_clouded_pixels(tiny, both):
    encoder, features = both
    clouded = conditions_of(BOTH, BOTH, CLOUDS)[-1]
    batch = next(tiny.data(6).batches("test", range(6)))
    expected = encoder.encoder.features(seen(batch, clouded), BOTH)
    np.testing.assert_allclose(features["test"]["s1+clouded s2"], expected, atol=1e-5)
    assert np.abs(features["test"]["s1+clouded s2"] - features["test"]["s1+s2"]).max() > 1e-3


@pytest.fixture(scope="module")
def batch(tiny):
    return next(tiny.data().batches("test", range(4)))


def encoder_of(tiny, variant, readout="mean"):
    return CheckpointEncoder(tiny.untrained(variant), readout)


def test_features_are_the_mean_of_the_encoders_tokens(tiny, batch):
    checkpoint = tiny.untrained()
    encoder = checkpoint.encoder().eval()
    with torch.no_grad():
        expected = pool(encoder(Preprocess(checkpoint.preprocessing)(batch.pixels)), "mean", BOTH)
    found = encoder_of(tiny, "fusmae").features(batch.pixels, BOTH)
    assert (found.shape, found.dtype) == ((4, 16), torch.float32)
    assert torch.equal(found, expected)


@pytest.mark.parametrize(("readout", "parts"), [("cls", 1), ("concat", 2), ("spread", 4)])
def test_features_are_read_out_as_told_and_of_one_sensor_alone_the_other_parts_are_zero(tiny, batch, readout, parts):
    encoder = encoder_of(tiny, "fusmae", readout)
    assert encoder.features(batch.pixels, BOTH).shape == (4, parts * 16)
    for name in BOTH:
        alone = encoder.features(batch.only((name,)), (name,))
        assert alone.shape == (4, parts * 16)
        assert int((alone.std(dim=0) > 0).sum()) == (16 if readout == "cls" else parts // 2 * 16)
        assert not alone[:, alone.std(dim=0) == 0].any()


@pytest.mark.parametrize("variant", ["fusmae", "joint", "stack"])
def test_one_modality_alone_has_features_of_its_own(tiny, batch, variant):
    encoder = encoder_of(tiny, variant)
    assert encoder.modalities == BOTH
    alone = encoder.features(batch.only(("s1",)), ("s1",))
    assert torch.isfinite(alone).all()
    assert not torch.allclose(alone, encoder.features(batch.pixels, BOTH), atol=1e-3)


@pytest.mark.parametrize(("variant", "own"), [("s1-only", ("s1",)), ("s2-only", ("s2",))])
def test_an_encoder_of_one_modality_is_known_by_it(tiny, batch, variant, own):
    encoder = encoder_of(tiny, variant)
    assert encoder.modalities == own
    assert encoder.features(batch.only(own), own).shape == (4, 16)


def test_weights_stay_as_they_are_and_ask_for_no_gradient(tiny, batch):
    encoder = encoder_of(tiny, "fusmae")
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    assert not encoder.features(batch.pixels, BOTH).requires_grad
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not encoder.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


def test_the_encoder_alone_is_counted_not_its_decoders(tiny):
    checkpoint = tiny.untrained()
    counted = sum(tensor.numel() for tensor in part_of(checkpoint.weights, "encoder.").values())
    buffers = sum(buffer.numel() for buffer in checkpoint.encoder().buffers())
    assert counted - buffers <= encoder_of(tiny, "fusmae").num_parameters <= counted
    assert encoder_of(tiny, "fusmae").num_parameters < sum(tensor.numel() for tensor in checkpoint.weights.values())


def test_weights_of_another_model_are_refused(tiny):
    checkpoint, other = tiny.untrained("fusmae"), tiny.untrained("s1-only")
    mixed = type(checkpoint)(checkpoint.architecture, checkpoint.preprocessing, (), {}, other.weights)
    with pytest.raises(CheckpointError):
        CheckpointEncoder(mixed, "mean")
