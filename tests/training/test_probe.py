import warnings
from pathlib import Path

import pytest
import torch

from fusmae.models.architecture import modality_settings
from fusmae.models.encoder import Encoder
from fusmae.models.heads import pool
from fusmae.models.preprocess import Preprocess
from fusmae.training.probe import Prober, choose_heads, setting_name
from fusmae.training.trainer import predict
from tests.sections import runtime_section

SETTINGS = modality_settings(("s1", "s2"))


@pytest.fixture
def make_prober(architecture, preprocessing, classes):
    def make(learning_rates=(1e-2, 1e-1), settings=SETTINGS, readout="mean") -> Prober:
        torch.manual_seed(0)
        return Prober(
            Encoder(architecture, drop_path=0.5),
            Preprocess(preprocessing),
            settings=settings,
            learning_rates=learning_rates,
            num_classes=len(classes),
            readout=readout,
        )

    return make


def copy_heads(module: Prober, other: Prober, at: int, other_at: int) -> None:
    for name in module.heads:
        module.heads[name][at].load_state_dict(other.heads[name][other_at].state_dict())


def test_settings_are_all_modalities_then_each_alone():
    assert SETTINGS == [("s1", "s2"), ("s1",), ("s2",)]
    assert modality_settings(("s2",)) == [("s2",)]
    assert setting_name(("s1", "s2")) == "s1+s2"


def test_training_leaves_the_encoder_bit_identical_and_changes_every_head(
    make_prober, make_data, tmp_path, train, weights_of
):
    module = make_prober()
    before = weights_of(module)
    train(module, make_data(), tmp_path)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name]) == name.startswith("encoder."), name


def test_encoder_stays_in_eval_mode_and_without_gradients(make_prober):
    module = make_prober().train()
    assert all(not part.training for part in module.encoder.modules())
    assert module.heads["s1"][0].norm.training
    assert all(not parameter.requires_grad for parameter in module.encoder.parameters())


def test_a_frozen_encoder_in_eval_mode_is_no_warning_and_a_trained_part_in_eval_mode_is(
    make_prober, make_data, tmp_path, train
):
    def said(module, scratch):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            train(module, make_data(), scratch, epochs=1)
        return [str(item.message) for item in caught if "in eval mode" in str(item.message)]

    assert said(make_prober(), tmp_path / "frozen") == []
    module = make_prober()
    module.heads.eval()
    assert "in eval mode at the start of training" in said(module, tmp_path / "trained")[0]


def test_features_are_the_pooled_latents_of_the_setting(make_prober, make_data):
    module = make_prober()
    batch = next(iter(make_data().train_dataloader()))
    features = module.features(batch)
    tiles = module.preprocess(batch.pixels)
    alone = pool(module.encoder({"s1": tiles["s1"]}), "mean", ("s1", "s2"))
    assert torch.equal(features["s1"], alone)
    assert not torch.equal(features["s1"], features["s1+s2"])
    assert not features["s1"].requires_grad


def test_a_head_of_one_modality_never_sees_the_other(make_prober, make_data):
    module = make_prober().eval()
    batch = next(iter(make_data().train_dataloader()))
    other = batch._replace(pixels=batch.pixels | {"s1_10m": batch.pixels["s1_10m"] * 0})
    for name, is_same in (("s1", False), ("s2", True), ("s1+s2", False)):
        assert torch.equal(module(batch)[name][0], module(other)[name][0]) == is_same


@pytest.mark.parametrize("at", [0, 1])
def test_training_two_rates_together_equals_training_one_alone(make_prober, make_data, tmp_path, train, at):
    rates = (1e-2, 1e-1)
    together, alone = make_prober(rates), make_prober(rates[at : at + 1])
    copy_heads(alone, together, 0, at)
    train(together, make_data(), tmp_path / "a")
    train(alone, make_data(), tmp_path / "b")
    for name in together.heads:
        expected = alone.heads[name][0].state_dict()
        for part, tensor in together.heads[name][at].state_dict().items():
            assert torch.equal(tensor, expected[part])
        other = together.heads[name][1 - at].linear.weight
        assert not torch.equal(together.heads[name][at].linear.weight, other)


def test_training_one_setting_alone_equals_training_three_together(make_prober, make_data, tmp_path, train):
    together, alone = make_prober(), make_prober(settings=[("s2",)])
    for at in range(2):
        copy_heads(alone, together, at, at)
    train(together, make_data(), tmp_path / "a")
    train(alone, make_data(), tmp_path / "b")
    expected = together.heads["s2"].state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in alone.heads["s2"].state_dict().items())


def test_predictions_come_in_the_loaders_order_and_in_eval_mode(make_prober, make_data, tmp_path, train):
    module, data = make_prober(), make_data()
    train(module, data, tmp_path, epochs=1)
    batches = predict(runtime_section(), module, data.loader("test"))
    whole = next(iter(make_data(6).loader("test")))
    with torch.no_grad():
        expected = module.eval()(whole)
    for name in module.heads:
        for at in range(2):
            found = torch.cat([batch[name][at] for batch in batches])
            assert found.shape == (6, 4)
            torch.testing.assert_close(found, expected[name][at], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("readout", "width"), [("mean", 16), ("cls", 16), ("concat", 32), ("spread", 64)])
def test_every_readout_trains(make_prober, make_data, tmp_path: Path, train, readout, width):
    module = make_prober(readout=readout)
    train(module, make_data(), tmp_path, epochs=1)
    assert module.heads["s2"][0].linear.in_features == width


def test_the_best_score_is_chosen_for_each_setting():
    assert choose_heads({"s1": [0.1, 0.3, 0.2], "s2": [0.5, 0.4, 0.1]}) == {"s1": 1, "s2": 0}


def test_the_first_of_equal_scores_is_chosen():
    assert choose_heads({"s1": [0.2, 0.4, 0.4], "s2": [0.3, 0.3, 0.3]}) == {"s1": 1, "s2": 0}
