"""Training with some of the labels, by the real trainer."""

import numpy as np
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from fusmae.config.study import StepsConfig
from fusmae.config.task import Task
from fusmae.data.datamodule import Draws
from fusmae.data.pixels import NO_CLASS
from fusmae.data.shards import ShardReader
from fusmae.evaluation.conditions import Clouds, conditions_of
from fusmae.evaluation.predictions import finetuned_answers
from fusmae.study.measure.measurement import LabelledRows, Training
from fusmae.training.checkpoint import part_of
from tests.sections import runtime_section

pytestmark = pytest.mark.usefixtures("_one_thread")

BOTH = ("s1", "s2")
CPU, CLOUDS = torch.device("cpu"), Clouds(seed=0, share=0.6)
# 1, 3 and all 17 of train: none of them makes whole epochs of the steps below.
SHARES = ([11], [2, 7, 16], range(17))
FEW = SHARES[1]
# The maps that come along with labels of several classes per tile.
MAPS = Task(kind="segmentation", classes=("water", "forest", "town", "ice"))


@pytest.fixture
def training(tiny, tmp_path):
    """The settings of a training with the labels of some rows, or with their maps."""

    def make(rows=FEW, steps=10, seed=1, task=None, drop=0.3):
        augment = {"flip": True, "turn": True, "min_crop": 0.8}
        reader = tiny.data().reader("train")
        return Training(
            tiny.shards,
            LabelledRows(reader, np.asarray(rows), task or reader.task),
            StepsConfig(steps=steps, batch_size=4, learning_rate=1e-2),
            Draws(seed, BOTH, 1, drop, augment=augment),
            runtime_section(checkpoint_every_steps=1000),
            tmp_path / f"{len(rows)}-{steps}-{seed}",
        )

    return make


@pytest.fixture(scope="module")
def checkpoint(tiny):
    return tiny.untrained()


@pytest.fixture
def finetune(tiny, checkpoint, training):
    def run(*rows, is_scratch=False, **settings):
        return training(*rows, **settings).train(checkpoint, tiny.config.finetune, is_scratch=is_scratch)

    return run


@pytest.fixture
def segment(tiny, checkpoint, training):
    def run(*rows, **settings):
        return training(*rows, task=MAPS, **settings).train(checkpoint, tiny.config.finetune, is_frozen=True)

    return run


@pytest.fixture
def train(request, finetune, segment):
    """Finetuning or segmentation, as the test asks."""
    return {"finetune": finetune, "segment": segment}[request.param]


each = pytest.mark.parametrize("train", ["finetune", "segment"], indirect=True)


@pytest.fixture
def steps_taken():
    """A list with an entry for every step of any optimizer: its learning rates."""
    taken = []
    hook = register_optimizer_step_post_hook(
        lambda optimizer, *_: taken.append(tuple(group["lr"] for group in optimizer.param_groups))
    )
    yield taken
    hook.remove()


@each
@pytest.mark.parametrize("rows", SHARES, ids=len)
def test_every_share_of_labels_is_trained_for_the_same_number_of_steps(train, steps_taken, rows):
    train(rows)
    assert len(steps_taken) == 10


@each
@pytest.mark.parametrize("rows", SHARES, ids=len)
def test_the_learning_rate_begins_at_its_peak_and_ends_near_zero(train, steps_taken, rows):
    train(rows)
    peaks = [max(rates) for rates in steps_taken]
    assert max(peaks) == pytest.approx(1e-2)
    assert peaks[-1] < 0.05 * max(peaks)


@pytest.mark.parametrize("rows", SHARES, ids=len)
def test_finetuning_warms_up_over_its_first_tenth_at_any_share_of_labels(finetune, steps_taken, rows):
    finetune(rows, steps=20)
    peaks = [max(rates) for rates in steps_taken]
    assert len(peaks) == 20
    assert peaks[0] == pytest.approx(0.5e-2)
    assert peaks[1] == peaks[2] == pytest.approx(1e-2)


@each
def test_no_row_without_a_label_is_read(train, monkeypatch):
    asked = {"read": set(), "read_maps": set()}

    def listen(name):
        own = getattr(ShardReader, name)

        def heard(reader, indices):
            asked[name].update(indices)
            return own(reader, indices)

        monkeypatch.setattr(ShardReader, name, heard)

    for name in asked:
        listen(name)
    module = train()
    assert asked["read"] == set(FEW)
    assert asked["read_maps"] == (set(FEW) if module.model.task.is_dense else set())


@each
def test_a_seed_gives_the_same_weights_again_and_another_one_others(train, tmp_path):
    # One after the other: each run finds torch's own generator in another state.
    first, again, other = (train(seed=seed).state_dict() for seed in (1, 1, 2))
    # What was resumed from would be no second run.
    assert not list(tmp_path.rglob("*.ckpt"))
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert any(not torch.equal(tensor, other[name]) for name, tensor in first.items())


def test_what_begins_as_initialised_has_no_layer_decay(finetune, steps_taken):
    finetune(is_scratch=True)
    assert all(len(set(rates)) == 1 for rates in steps_taken)
    steps_taken.clear()
    finetune(steps=9)
    assert len(set(steps_taken[0])) > 2


def test_finetuning_moves_the_encoders_weights(checkpoint, finetune):
    encoder = finetune(drop=0.0).model.encoder
    before = part_of(checkpoint.weights, "encoder.")
    moved = [name for name, parameter in encoder.named_parameters() if not torch.equal(parameter, before[name])]
    assert len(moved) > 0.8 * len(list(encoder.named_parameters()))
    assert not encoder.training


def test_finetuned_probabilities_are_of_one_model_whatever_it_is_given(tiny, finetune):
    conditions, module = conditions_of(BOTH, BOTH, CLOUDS), finetune()
    found, again = (
        finetuned_answers(module.model, module.preprocess, tiny.data(size), conditions, CPU) for size in (4, 6)
    )
    assert set(found) == {"s1+s2", "s1", "s2", "s1+clouded s2"}
    for name, probabilities in found.items():
        assert probabilities.shape == (6, 4)
        np.testing.assert_allclose(again[name], probabilities, atol=1e-6)
    assert len({probabilities.tobytes() for probabilities in found.values()}) == 4


def test_a_training_knows_the_labels_and_maps_of_its_rows_alone(tiny):
    reader = tiny.data().reader("train")
    part = LabelledRows(reader, np.array(FEW), MAPS)
    assert (len(part), part.keys) == (3, [reader.keys[row] for row in FEW])
    np.testing.assert_array_equal(LabelledRows(reader, np.array(FEW), reader.task).labels, reader.labels[list(FEW)])
    np.testing.assert_array_equal(part.read_maps([2, 0]), reader.read_maps([FEW[2], FEW[0]]))
    assert (part.task, reader.task.kind) == (MAPS, "multilabel")


def test_segmentation_leaves_the_encoder_as_it_is_and_trains_the_head(checkpoint, segment):
    module = segment()
    before = part_of(checkpoint.weights, "encoder.")
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.model.encoder.state_dict().items())
    untrained = segment(steps=1)
    assert not torch.equal(module.model.head.output.weight, untrained.model.head.output.weight)


def test_maps_are_counted_under_every_condition_by_one_model(tiny, segment):
    module, data = segment(), tiny.data(with_maps=True)
    found = finetuned_answers(module.model, module.preprocess, data, conditions_of(BOTH, BOTH, CLOUDS), CPU)
    assert set(found) == {"s1+s2", "s1", "s2", "s1+clouded s2"}
    maps = data.reader("test").read_maps(range(6))
    for counts in found.values():
        confusions = counts[:, :16].reshape(6, 4, 4)
        np.testing.assert_array_equal(confusions.sum(axis=(1, 2)), (maps != NO_CLASS).sum(axis=(1, 2)))
        np.testing.assert_array_equal(confusions.sum(axis=2)[:, 1], (maps == 1).sum(axis=(1, 2)))
    assert len({counts.tobytes() for counts in found.values()}) == 4
