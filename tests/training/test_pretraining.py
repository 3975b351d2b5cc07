import json

import pytest
import torch

from fusmae.training.build import build_encoder, build_fusmae, build_preprocess, part_of
from fusmae.training.checkpoint import Checkpoint, load_checkpoint, load_weights, save_checkpoint
from fusmae.training.pretraining import Pretraining, build_pretraining
from fusmae.training.reconstruction import PretrainRecipe

RECIPE = PretrainRecipe(base_lr=0.1, batch_size=4, weight_decay=0.05, warmup_epochs=1)
SEPARATE = {"early_fusion": False, "feature_fusion": False}


@pytest.fixture
def start(architecture, inputs, statistics):
    switches = {name: value for name, value in architecture.items() if name not in ("tile_px", "groups")}

    def made(seed: int = 0, *, is_stacked: bool = False, **changes) -> Pretraining:
        return build_pretraining(switches | changes, RECIPE, inputs, statistics, seed, is_stacked=is_stacked)

    return made


def test_initial_weights_depend_on_the_seed_alone(start):
    first = start(1)
    torch.rand(7)
    again, other = start(1), start(2)
    assert all(torch.equal(again.initial[name], tensor) for name, tensor in first.initial.items())
    assert any(not torch.equal(other.initial[name], tensor) for name, tensor in first.initial.items())


def test_initial_weights_stay_what_they_were_while_the_module_is_trained(start, make_data, tmp_path, train):
    made = start()
    assert all(torch.equal(made.module.model.state_dict()[name], tensor) for name, tensor in made.initial.items())
    expected = {name: tensor.clone() for name, tensor in made.initial.items()}
    train(made.module, make_data(17), tmp_path, epochs=1)
    assert all(torch.equal(made.initial[name], tensor) for name, tensor in expected.items())
    assert not any(torch.equal(made.module.model.state_dict()[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("is_stacked", [False, True])
def test_what_a_checkpoint_will_say_rebuilds_model_and_tiles(start, make_data, tmp_path, is_stacked):
    made = start(is_stacked=is_stacked, **(SEPARATE if is_stacked else {}))
    assert tuple(made.architecture["groups"]) == (("s1+s2",) if is_stacked else ("s1", "s2"))
    save_checkpoint(tmp_path / "c", Checkpoint(made.architecture, made.preprocessing, (), {}, made.initial))
    found = load_checkpoint(tmp_path / "c")
    load_weights(model := build_fusmae(found.architecture), found.weights, "here")
    batch = make_data(modalities=tuple(made.architecture["groups"])).first("train", 4)
    tiles = build_preprocess(found.preprocessing)(batch.pixels)
    expected = made.module(batch)
    for name, reconstruction in model(tiles, batch.noise).items():
        torch.testing.assert_close(reconstruction.pred, expected[name].pred, atol=1e-5, rtol=0)
    load_weights(encoder := build_encoder(found.architecture), part_of(found.weights, "encoder."), "here")
    assert torch.equal(encoder(tiles).cls, made.module.model.encoder(tiles).cls)


def test_a_stack_is_one_modality_with_every_band_and_its_first_ones_mask_ratio(start):
    made = start(is_stacked=True, mask_ratio={"s1": 0.5, "s2": 0.9}, **SEPARATE)
    assert made.architecture["groups"] == {"s1+s2": [2, 3, 1, 1]}
    assert made.architecture["mask_ratio"] == {"s1+s2": 0.5}
    assert made.module.model.encoder.in_chans == {"s1+s2": 7}
    assert json.loads(json.dumps(made.preprocessing))["is_stacked"]


def test_a_checkpoint_of_before_there_were_stacks_is_none(start):
    made = start()
    assert not made.preprocessing["is_stacked"]
    old = {name: value for name, value in made.preprocessing.items() if name != "is_stacked"}
    assert not build_preprocess(old).is_stacked


def test_a_stack_is_trained_and_logs_a_name_without_a_plus_sign(start, make_data, tmp_path, train, weights_of):
    made = start(is_stacked=True, **SEPARATE)
    before = weights_of(made.module)
    trainer = train(made.module, make_data(17, modalities=tuple(made.architecture["groups"])), tmp_path, epochs=1)
    assert set(trainer.callback_metrics) == {
        f"{split}/{name}" for split in ("train", "validation") for name in ("loss", "loss_s1-s2")
    }
    assert not any(torch.equal(tensor, before[name]) for name, tensor in made.module.state_dict().items())
