"""Training with some of the labels, by the real trainer."""

import numpy as np
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from fusmae.config.study import StepsConfig
from fusmae.data.datamodule import Draws
from fusmae.data.pixels import NO_CLASS
from fusmae.data.shards import ShardReader
from fusmae.evaluation.conditions import Clouds, conditions_of
from fusmae.evaluation.predictions import finetuned_probabilities
from fusmae.study.measure.measurement import Task, map_confusions
from fusmae.study.measure.measurement import finetune as finetune_for_steps
from fusmae.study.measure.measurement import segment as segment_for_steps
from fusmae.training.checkpoint import part_of
from fusmae.training.segmentation import Segmenter
from tests.sections import runtime_section

pytestmark = pytest.mark.usefixtures("_one_thread")

BOTH = ("s1", "s2")
CPU, CLOUDS = torch.device("cpu"), Clouds(seed=0, share=0.6)
# 1, 3 and all 17 of train: none of them makes whole epochs of the steps below.
SHARES = ([11], [2, 7, 16], range(17))
FEW = SHARES[1]


@pytest.fixture
def task(tiny, tmp_path):
    def make(rows=FEW, steps=10, seed=1):
        augment = {"flip": True, "turn": True, "min_crop": 0.8}
        return Task(
            tiny.shards,
            np.asarray(rows),
            StepsConfig(steps=steps, batch_size=4, learning_rate=1e-2),
            Draws(seed, BOTH, 1, 0.3, augment=augment),
            runtime_section(checkpoint_every_steps=1000),
            tmp_path / f"{len(rows)}-{steps}-{seed}",
        )

    return make


@pytest.fixture(scope="module")
def checkpoint(tiny):
    return tiny.untrained()


@pytest.fixture
def finetune(tiny, checkpoint):
    def run(task, *, kind="multilabel", is_scratch=False, **changes):
        recipe = tiny.config.finetune.model_copy(update=changes)
        return finetune_for_steps(task, checkpoint, recipe, 4, kind, is_scratch=is_scratch)

    return run


@pytest.fixture
def segment(checkpoint):
    return lambda task, setting=BOTH: segment_for_steps(task, checkpoint, setting, 4)


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
def test_every_share_of_labels_is_trained_for_the_same_number_of_steps(train, task, steps_taken, rows):
    train(task(rows))
    assert len(steps_taken) == 10


@each
@pytest.mark.parametrize("rows", SHARES, ids=len)
def test_the_learning_rate_begins_at_its_peak_and_ends_near_zero(train, task, steps_taken, rows):
    train(task(rows))
    peaks = [max(rates) for rates in steps_taken]
    assert max(peaks) == pytest.approx(1e-2)
    assert peaks[-1] < 0.05 * max(peaks)


@pytest.mark.parametrize("rows", SHARES, ids=len)
def test_finetuning_warms_up_over_its_first_tenth_at_any_share_of_labels(finetune, task, steps_taken, rows):
    finetune(task(rows, steps=20))
    peaks = [max(rates) for rates in steps_taken]
    assert len(peaks) == 20
    assert peaks[0] == pytest.approx(0.5e-2)
    assert peaks[1] == peaks[2] == pytest.approx(1e-2)


@each
def test_no_row_without_a_label_is_read(train, task, monkeypatch):
    asked = {"read": set(), "read_maps": set()}

    def listen(name):
        own = getattr(ShardReader, name)

        def heard(reader, indices):
            asked[name].update(indices)
            return own(reader, indices)

        monkeypatch.setattr(ShardReader, name, heard)

    for name in asked:
        listen(name)
    module = train(task())
    assert asked["read"] == set(FEW)
    assert asked["read_maps"] == (set(FEW) if isinstance(module, Segmenter) else set())


@each
def test_a_seed_gives_the_same_weights_again_and_another_one_others(train, task, tmp_path):
    # One after the other: each run finds torch's own generator in another state.
    first, again, other = (train(task(seed=seed)).state_dict() for seed in (1, 1, 2))
    # What was resumed from would be no second run.
    assert not list(tmp_path.rglob("*.ckpt"))
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert any(not torch.equal(tensor, other[name]) for name, tensor in first.items())


def test_what_begins_as_initialised_has_no_layer_decay(finetune, task, steps_taken):
    finetune(task(), is_scratch=True)
    assert all(len(set(rates)) == 1 for rates in steps_taken)
    steps_taken.clear()
    finetune(task(steps=9))
    assert len(set(steps_taken[0])) > 2


def test_finetuning_moves_the_encoders_weights(checkpoint, finetune, task):
    encoder = finetune(task(), modality_drop=0.0).model.encoder
    before = part_of(checkpoint.weights, "encoder.")
    moved = [name for name, parameter in encoder.named_parameters() if not torch.equal(parameter, before[name])]
    assert len(moved) > 0.8 * len(list(encoder.named_parameters()))
    assert not encoder.training


def test_finetuned_probabilities_are_of_one_model_whatever_it_is_given(tiny, finetune, task):
    conditions, module = conditions_of(BOTH, BOTH, CLOUDS), finetune(task())
    found, again = (
        finetuned_probabilities(module.model, module.preprocess, tiny.data(size), conditions, CPU) for size in (4, 6)
    )
    assert set(found) == {"s1+s2", "s1", "s2", "s1+clouded s2"}
    for name, probabilities in found.items():
        assert probabilities.shape == (6, 4)
        np.testing.assert_allclose(again[name], probabilities, atol=1e-6)
    assert len({probabilities.tobytes() for probabilities in found.values()}) == 4


def test_one_class_a_pair_is_learned_by_a_softmax(tiny, finetune, task):
    module = finetune(task(), kind="multiclass")
    given = tiny.data(), conditions_of(BOTH, BOTH, CLOUDS), CPU
    for probabilities in finetuned_probabilities(module.model, module.preprocess, *given, kind="multiclass").values():
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)


def test_segmentation_leaves_the_encoder_as_it_is_and_trains_the_head(checkpoint, segment, task):
    module = segment(task())
    before = part_of(checkpoint.weights, "encoder.")
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.encoder.state_dict().items())
    untrained = segment(task(steps=1))
    assert not torch.equal(module.head.linear.weight, untrained.head.linear.weight)


def test_maps_are_counted_under_the_conditions_of_the_heads_setting(tiny, segment, task):
    conditions, data = conditions_of(BOTH, BOTH, CLOUDS), tiny.data(with_maps=True)
    both = map_confusions(segment(task()), data, conditions, CPU)
    assert set(both) == {"s1+s2", "s1+clouded s2"}
    alone = map_confusions(segment(task(steps=9), ("s1",)), data, conditions, CPU)
    assert set(alone) == {"s1"}
    maps = data.reader("test").read_maps(range(6))
    for confusions in (*both.values(), *alone.values()):
        assert confusions.shape == (6, 4, 4)
        np.testing.assert_array_equal(confusions.sum(axis=(1, 2)), (maps != NO_CLASS).sum(axis=(1, 2)))
        np.testing.assert_array_equal(confusions.sum(axis=2)[:, 1], (maps == 1).sum(axis=(1, 2)))
    assert not np.array_equal(both["s1+s2"], both["s1+clouded s2"])
