"""A variant's encoder as a function from pixels to features."""

import pytest
import torch

from fusmae.errors import CheckpointError
from fusmae.models.heads import pool
from fusmae.models.preprocess import Preprocess
from fusmae.study.measure.frozen import CheckpointEncoder
from fusmae.training.checkpoint import part_of

pytestmark = pytest.mark.usefixtures("_one_thread")

BOTH = ("s1", "s2")


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
def test_features_are_read_out_as_told_and_of_one_sensor_alone_have_its_parts_only(tiny, batch, readout, parts):
    encoder = encoder_of(tiny, "fusmae", readout)
    assert encoder.features(batch.pixels, BOTH).shape == (4, parts * 16)
    one, other = (encoder.features(batch.only((name,)), (name,)) for name in BOTH)
    assert one.shape == other.shape == (4, 16 if readout == "cls" else parts // 2 * 16)
    for alone in (one, other):
        assert (alone.std(dim=0) > 0).all()


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
