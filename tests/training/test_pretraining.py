import pytest
import torch

from fusmae.models.preprocess import Preprocess, Preprocessing
from fusmae.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from fusmae.training.reconstruction import Reconstructor, start_pretraining
from tests.sections import model_section, pretrain_section

SEPARATE = {"early_fusion": False, "feature_fusion": False}


@pytest.fixture
def start(preprocessing):
    def made(seed: int = 0, *, is_stacked: bool = False, **changes) -> tuple[Reconstructor, Checkpoint]:
        description = preprocessing.model_copy(update={"is_stacked": is_stacked})
        return start_pretraining(model_section(**changes), description, pretrain_section(), seed)

    return made


def test_initial_weights_depend_on_the_seed_alone(start):
    _, first = start(1)
    torch.rand(7)
    (_, again), (_, other) = start(1), start(2)
    assert all(torch.equal(again.weights[name], tensor) for name, tensor in first.weights.items())
    assert any(not torch.equal(other.weights[name], tensor) for name, tensor in first.weights.items())


def test_initial_weights_stay_what_they_were_while_the_module_is_trained(start, make_data, tmp_path, train):
    module, initial = start()
    assert all(torch.equal(module.model.state_dict()[name], tensor) for name, tensor in initial.weights.items())
    expected = {name: tensor.clone() for name, tensor in initial.weights.items()}
    train(module, make_data(17), tmp_path, epochs=1)
    assert all(torch.equal(initial.weights[name], tensor) for name, tensor in expected.items())
    assert not any(torch.equal(module.model.state_dict()[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("is_stacked", [False, True])
def test_what_a_checkpoint_will_say_rebuilds_model_and_tiles(start, make_data, tmp_path, is_stacked):
    module, initial = start(is_stacked=is_stacked, **(SEPARATE if is_stacked else {}))
    assert tuple(initial.architecture.groups) == (("s1+s2",) if is_stacked else ("s1", "s2"))
    save_checkpoint(tmp_path / "c", initial)
    found = load_checkpoint(tmp_path / "c")
    batch = make_data(modalities=tuple(initial.architecture.groups)).first("train", 4)
    tiles = Preprocess(found.preprocessing)(batch.pixels)
    expected, model = module.model(*module.masked(batch)), found.autoencoder()
    for name, reconstruction in model(tiles, model.draw_masks(tiles, batch.noise)).items():
        torch.testing.assert_close(reconstruction.pred, expected[name].pred, atol=1e-5, rtol=0)
    assert torch.equal(found.encoder()(tiles).cls, module.model.encoder(tiles).cls)


def test_a_stack_is_one_modality_with_every_band_and_its_first_ones_mask_ratio(start):
    module, initial = start(is_stacked=True, mask_ratio={"s1": 0.5, "s2": 0.9}, **SEPARATE)
    assert initial.architecture.groups == {"s1+s2": (2, 3, 1, 1)}
    assert initial.architecture.mask_ratio == {"s1+s2": 0.5}
    assert module.model.encoder.in_chans == {"s1+s2": 7}
    assert initial.preprocessing.is_stacked


def test_a_checkpoint_of_before_there_were_stacks_is_none(start):
    values = start()[1].preprocessing.model_dump(mode="json")
    assert not values.pop("is_stacked")
    assert not Preprocessing.model_validate(values).is_stacked


def test_a_stack_is_trained_and_logs_a_name_without_a_plus_sign(start, make_data, tmp_path, train, weights_of):
    module, initial = start(is_stacked=True, **SEPARATE)
    before = weights_of(module)
    trainer = train(module, make_data(17, modalities=tuple(initial.architecture.groups)), tmp_path, epochs=1)
    assert set(trainer.callback_metrics) == {
        f"{split}/{name}" for split in ("train", "validation") for name in ("loss", "loss_s1-s2")
    }
    assert not any(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
