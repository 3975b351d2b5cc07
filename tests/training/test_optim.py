import math

import pytest
import torch
from torch import nn
from torch.optim import AdamW

from fusmae.config.task import Task
from fusmae.models.encoder import Encoder
from fusmae.models.fusmae import FusMAE
from fusmae.models.heads import ClassifierHead
from fusmae.models.predictors import TilePredictor
from fusmae.training.optim import parameter_groups, scaled_lr, warmup_cosine


@pytest.mark.parametrize(("batch_size", "expected"), [(256, 1.5e-4), (64, 3.75e-5), (1024, 6e-4)])
def test_learning_rate_grows_with_the_batch(batch_size, expected):
    assert scaled_lr(1.5e-4, batch_size) == pytest.approx(expected)


def test_biases_norms_and_tokens_are_not_decayed_and_everything_else_is(architecture):
    model = FusMAE(architecture)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, lr=0.1, weight_decay=0.05)
    decays = {names[id(parameter)]: group["weight_decay"] for group in groups for parameter in group["params"]}
    assert set(decays) == set(names.values())
    for name, decay in decays.items():
        is_plain = name.endswith("bias") or "norm" in name or name.endswith(("cls_token", "mask_token"))
        assert decay == (0.0 if is_plain else 0.05), name
    assert decays["encoder.cls_token"] == decays["decoders.s1.mask_token"] == 0.0
    assert decays["encoder.embed.s2.proj.weight"] == 0.05


def test_every_parameter_stands_in_one_group(architecture):
    model = FusMAE(architecture)
    groups = parameter_groups(model, lr=0.1, weight_decay=0.05, lr_scale=lambda name: 0.5 if "encoder" in name else 1.0)
    listed = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(listed) == len(set(listed)) == len(list(model.parameters()))
    assert {(group["lr"], group["weight_decay"]) for group in groups} == {
        (lr, decay) for lr in (0.1, 0.05) for decay in (0.0, 0.05)
    }


def test_frozen_parameters_are_left_out():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    module[0].requires_grad_(False)
    groups = parameter_groups(module, lr=0.1, weight_decay=0.05)
    assert sum(len(group["params"]) for group in groups) == 2


def test_layer_decay_shrinks_the_rate_by_its_factor_from_layer_to_layer(make_finetuner, make_data, tmp_path, train):
    """Depth 3: head and norm at the top, two joint blocks, the XAttnEncoder as block 0, embeddings and CLS last."""
    module = make_finetuner()
    optimizer = train(module, make_data(), tmp_path, epochs=1).optimizers[0]
    names = {id(parameter): name for name, parameter in module.model.named_parameters()}
    rates = {
        names[id(parameter)]: group["initial_lr"] for group in optimizer.param_groups for parameter in group["params"]
    }
    top = 0.1 * 4 / 256
    expected = {
        "head.linear.weight": 0,
        "head.norm.bias": 0,
        "encoder.norm.weight": 0,
        "encoder.blocks.1.mlp.fc1.weight": 1,
        "encoder.blocks.0.attn.qkv.weight": 2,
        "encoder.first_block.attentions.s1.q.weight": 3,
        "encoder.first_block.mlp.fc1.bias": 3,
        "encoder.cls_token": 4,
        "encoder.embed.s1.proj.weight": 4,
    }
    for name, power in expected.items():
        assert rates[name] == pytest.approx(top * 0.65**power), name
    assert set(rates) == set(names.values())


def test_layer_decay_covers_the_classifier_without_early_fusion(architecture):
    encoder = Encoder(architecture.model_copy(update={"early_fusion": False}))
    model = TilePredictor(Task(), encoder, "mean", ClassifierHead(16, 2))
    layers = {encoder.layer_of(name.removeprefix("encoder.")) for name, _ in model.encoder.named_parameters()}
    assert layers == {0, 1, 2, 3, 4}


def test_rate_warms_up_linearly_then_follows_half_a_cosine_to_zero():
    optimizer = AdamW([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = warmup_cosine(optimizer, warmup_steps=4, total_steps=12)
    rates = []
    for _ in range(13):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[:5] == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0])
    assert rates[4:] == pytest.approx([1 + math.cos(math.pi * step / 8) for step in range(9)])
    assert rates[8] == pytest.approx(1.0)
    assert rates[12] == pytest.approx(0.0)


def test_rate_without_warm_up_starts_at_the_top_and_stays_zero_after_the_end():
    optimizer = AdamW([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = warmup_cosine(optimizer, warmup_steps=0, total_steps=2)
    rates = []
    for _ in range(5):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([1.0, 0.5, 0.0, 0.0, 0.0])


@pytest.mark.parametrize(("kind", "betas"), [("make_reconstructor", (0.9, 0.95)), ("make_finetuner", (0.9, 0.999))])
def test_each_objective_has_the_betas_of_its_recipe(request, make_data, tmp_path, train, kind, betas):
    trainer = train(request.getfixturevalue(kind)(), make_data(), tmp_path, epochs=2)
    optimizer = trainer.optimizers[0]
    assert {group["betas"] for group in optimizer.param_groups} == {betas}
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.05}
    assert max(group["initial_lr"] for group in optimizer.param_groups) == pytest.approx(0.1 * 4 / 256)
    # 2 epochs of 4 steps, one of them warm-up: after the last step the rate has come down to zero.
    assert trainer.global_step == 8
    assert max(group["lr"] for group in optimizer.param_groups) == pytest.approx(0.0, abs=1e-12)
