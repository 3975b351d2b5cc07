"""Probabilities of published checkpoints over the test split."""

import numpy as np
import pytest
import torch

from fusmae.config.task import Task
from fusmae.errors import CheckpointError
from fusmae.evaluation.conditions import conditions_of
from fusmae.evaluation.features import CheckpointEncoder, features_of
from fusmae.evaluation.neighbours import neighbour_answers
from fusmae.evaluation.predictions import finetuned_answers, frozen_answers
from fusmae.models.heads import ClassifierHead, ProbeHead, readout_dim
from fusmae.models.predictors import TilePredictor
from fusmae.models.preprocess import Preprocess

pytestmark = pytest.mark.usefixtures("_one_thread")

BOTH = ("s1", "s2")
CONDITIONS, CPU = conditions_of(BOTH, BOTH), torch.device("cpu")
SETTINGS = {condition.name: condition.setting for condition in CONDITIONS}


@pytest.fixture
def start(tiny):
    """A pretrained checkpoint, an encoder with its weights, and its preprocessing."""
    found = tiny.untrained()
    return found, found.encoder(), Preprocess(found.preprocessing)


def whole_test_set(tiny):
    return next(tiny.data(6).batches("test", range(6)))


def test_a_finetuned_model_predicts_from_its_modalities_only_in_the_splits_order(tiny, start):
    _, encoder, preprocess = start
    torch.manual_seed(0)
    model = TilePredictor(Task(), encoder, "mean", ClassifierHead(16, 4)).eval()
    found = finetuned_answers(model, preprocess, tiny.data(), CONDITIONS, CPU)
    batch = whole_test_set(tiny)
    assert set(found) == set(SETTINGS)
    for name, setting in SETTINGS.items():
        with torch.no_grad():
            expected = model(preprocess(batch.only(setting))).sigmoid()
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], expected, atol=1e-6)
    assert not np.allclose(found["s1"], found["s2"])
    assert not np.allclose(found["s1+s2"], found["s2"])


@pytest.mark.parametrize(
    ("kind", "normalised"), [("multilabel", torch.sigmoid), ("multiclass", lambda x: x.softmax(1))]
)
def test_probabilities_of_one_class_per_pair_sum_to_one_and_those_of_several_are_each_its_own(
    tiny, start, kind, normalised
):
    class HalfPrecision(TilePredictor):
        def forward(self, tiles):
            return torch.tensor([[2.0, -1.0, 0.5, 0.0]] * len(next(iter(tiles.values()))), dtype=torch.bfloat16)

    model = HalfPrecision(Task(kind=kind), start[1], "mean", ClassifierHead(16, 4))
    found = finetuned_answers(model, start[2], tiny.data(), CONDITIONS, CPU)
    expected = normalised(torch.tensor([[2.0, -1.0, 0.5, 0.0]])).numpy()
    for probabilities in found.values():
        assert probabilities.dtype == np.float32
        np.testing.assert_allclose(probabilities, np.repeat(expected, 6, axis=0), rtol=1e-5)
        assert np.allclose(probabilities.sum(axis=1), 1) == (kind == "multiclass")


# Every head is as wide as the readout of all modalities.
@pytest.mark.parametrize("readout", ["mean", "cls", "concat", "spread"])
def test_a_probe_checkpoint_that_was_trained_by_steps_predicts_as_its_heads_did(tiny, start, classes, readout):
    checkpoint, encoder, preprocess = start
    encoder.eval()
    torch.manual_seed(0)
    heads = {name: ProbeHead(readout_dim(encoder, readout), 4) for name in SETTINGS}
    weights = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    for name, head in heads.items():
        head(torch.randn(8, readout_dim(encoder, readout)))
        weights |= {f"heads.{name}.{key}": tensor for key, tensor in head.state_dict().items()}
    probed = checkpoint.with_head(readout, Task(classes=classes), {}, weights)
    _, found = frozen_answers(probed, tiny.data(), CONDITIONS, CPU, neighbours=3)
    for name, setting in SETTINGS.items():
        model = TilePredictor(Task(), encoder, readout, heads[name]).eval()
        with torch.no_grad():
            expected = model(preprocess(whole_test_set(tiny).only(setting))).sigmoid()
        np.testing.assert_allclose(found[name], expected, atol=1e-5)


def test_knn_is_that_of_the_probed_encoders_features_of_all_of_train(tiny, start, classes):
    checkpoint, encoder, _ = start
    weights = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    for name in SETTINGS:
        weights |= {f"heads.{name}.{key}": tensor for key, tensor in ProbeHead(16, 4).state_dict().items()}
    probed, data = checkpoint.with_head("mean", Task(classes=classes), {}, weights), tiny.data()
    found, _ = frozen_answers(probed, data, CONDITIONS, CPU, neighbours=3)
    frozen = CheckpointEncoder(checkpoint, "mean")
    train, test = (features_of(frozen, data, split, CONDITIONS, CPU) for split in ("train", "test"))
    for name, probabilities in found.items():
        expected = neighbour_answers(train[name], data.reader("train").labels, test[name], k=3)
        np.testing.assert_array_equal(probabilities, expected)


def test_a_setting_without_a_head_is_refused(tiny, start, classes):
    checkpoint, encoder, _ = start
    weights = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    with pytest.raises(CheckpointError, match="head s1"):
        frozen_answers(
            checkpoint.with_head("mean", Task(classes=classes), {}, weights), tiny.data(), CONDITIONS, CPU, neighbours=3
        )
