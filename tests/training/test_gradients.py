"""Gradient reaches exactly the parameters that a setting of the switches trains."""

import itertools

import pytest
import torch

from fusmae.models.preprocess import Preprocessing
from fusmae.training.reconstruction import start_pretraining
from tests.sections import model_section, pretrain_section

SWITCHES = {
    "early_fusion": (True, False),
    "feature_fusion": (True, False),
    "masking": ("independent", "consistent"),
    "target_norm": ("patch", "group", "band"),
    "decode_fraction": (1.0, 0.5),
}
# Weights of reconstruction and of the contrastive term.
TERMS = {"reconstruction": (1.0, 0.0), "both": (1.0, 0.5), "contrast": (0.0, 1.0)}

# Early fusion's: its norms stand before the attentions alone.
CROSS_ATTENTION = ("model.encoder.first_block.attentions.", "model.encoder.first_block.norms.")


@pytest.fixture
def batch(make_data):
    return make_data().first("train", 4)


def without_gradient(module, batch) -> set[str]:
    module.training_step(batch, 0).backward()
    return {name for name, parameter in module.named_parameters() if parameter.grad is None or not parameter.grad.any()}


@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("values", list(itertools.product(*SWITCHES.values())))
def test_gradient_reaches_every_parameter_that_the_terms_train_and_no_other(make_reconstructor, batch, terms, values):
    """CLS learns in every setting, though nothing reads it: the other tokens attend to it in the joint blocks.

    The contrastive term encodes each modality alone: cross-attention and decoders have no part in it.
    """
    reconstruction_weight, contrastive_weight = TERMS[terms]
    module = make_reconstructor(
        reconstruction_weight=reconstruction_weight,
        contrastive_weight=contrastive_weight,
        **dict(zip(SWITCHES, values, strict=True)),
    )
    untouched = ("model.decoders.", "model.latent_fusion.", *CROSS_ATTENTION)
    expected = {name for name, _ in module.named_parameters() if terms == "contrast" and name.startswith(untouched)}
    assert without_gradient(module, batch) == expected
    assert module.model.encoder.cls_token.grad.any()


@pytest.mark.parametrize("present", ["s1", "s2"])
def test_a_batch_of_one_modality_trains_its_own_parts_and_the_shared_ones(make_reconstructor, batch, present):
    module, absent = make_reconstructor(), {"s1": "s2", "s2": "s1"}[present]
    found = without_gradient(module, batch._replace(dropped=absent))
    crossing = (*CROSS_ATTENTION, "model.latent_fusion.attentions.")
    names = {name for name, _ in module.named_parameters()}
    assert found == {name for name in names if f".{absent}." in name or name.startswith(crossing)}


def test_gradient_reaches_every_parameter_of_a_channel_stack(inputs, statistics, make_data):
    stack = Preprocessing(inputs=inputs, statistics=statistics, is_stacked=True)
    section = model_section(depth=3, early_fusion=False, feature_fusion=False)
    module, _ = start_pretraining(section, stack, pretrain_section(), seed=0)
    assert without_gradient(module, make_data(modalities=("s1+s2",)).first("train", 4)) == set()


def test_statistics_and_positions_are_never_trained(make_reconstructor):
    module = make_reconstructor(contrastive_weight=0.5)
    names = {name for name, _ in module.named_parameters()}
    assert not any("position" in name or name.startswith("preprocess") for name in names)
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert {name for name, _ in module.named_buffers()} & set(module.state_dict()) == set()


def test_the_optimizer_has_every_parameter_once(make_reconstructor, make_data, tmp_path, train):
    module = make_reconstructor(contrastive_weight=0.5)
    trainer = train(module, make_data(17), tmp_path, epochs=1)
    (optimizer,) = trainer.optimizers
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert len(held) == len({id(parameter) for parameter in held})
    assert {id(parameter) for parameter in held} == {id(parameter) for parameter in module.parameters()}
    assert torch.tensor([group["weight_decay"] for group in optimizer.param_groups]).tolist().count(0.0) == 1
