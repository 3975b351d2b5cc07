from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fusmae.config.task import Task
from fusmae.models.encoder import Encoder, Latents
from fusmae.models.heads import ClassifierHead, ProbeHead, pool, readout_dim
from fusmae.models.predictors import TilePredictor

NAMES = ("s1", "s2")
READOUTS = pytest.mark.parametrize("readout", ["mean", "cls", "concat", "spread"])


def _latents(presence: Tensor | None = None) -> Latents:
    tokens = {"s1": torch.randn(2, 3, 8), "s2": torch.randn(2, 5, 8)}
    return Latents(cls=torch.randn(2, 8), tokens=tokens, presence=presence)


def test_mean_is_over_all_tokens() -> None:
    latents = _latents()
    expected = torch.cat(list(latents.tokens.values()), dim=1).mean(1)
    torch.testing.assert_close(pool(latents, "mean", NAMES), expected)


def test_concat_is_each_modalitys_mean_side_by_side() -> None:
    latents = _latents()
    expected = torch.cat([tokens.mean(1) for tokens in latents.tokens.values()], dim=1)
    torch.testing.assert_close(pool(latents, "concat", NAMES), expected)


def test_spread_is_each_modalitys_mean_then_its_deviation_over_tokens() -> None:
    latents = _latents()
    means = [tokens.mean(1) for tokens in latents.tokens.values()]
    deviations = [(tokens.var(1, unbiased=False) + 1e-6).sqrt() for tokens in latents.tokens.values()]
    torch.testing.assert_close(pool(latents, "spread", NAMES), torch.cat(means + deviations, dim=1))


def test_spread_has_a_finite_gradient_where_all_tokens_are_equal_or_absent() -> None:
    latents = _latents(presence=torch.tensor([[True, True], [False, True]]))
    tokens = torch.ones(2, 3, 8)
    tokens[1] = torch.nan
    latents.tokens["s1"] = tokens.requires_grad_()
    pool(latents, "spread", NAMES)[:, 16:].sum().backward()
    assert tokens.grad is not None
    assert torch.isfinite(tokens.grad).all()


def test_cls_is_the_cls_latent() -> None:
    latents = _latents()
    assert pool(latents, "cls", NAMES) is latents.cls


@pytest.mark.parametrize("filler", [9.0, torch.nan])
def test_absent_tokens_never_enter_a_pool(filler: float) -> None:
    latents = _latents(presence=torch.tensor([[True, True], [False, True]]))
    latents.tokens["s1"][1] = filler
    own = {name: tokens.mean(1) for name, tokens in latents.tokens.items()}
    mean, concat = pool(latents, "mean", NAMES), pool(latents, "concat", NAMES)
    torch.testing.assert_close(mean[0], (3 * own["s1"] + 5 * own["s2"])[0] / 8)
    torch.testing.assert_close(mean[1], own["s2"][1])
    torch.testing.assert_close(concat[1], torch.cat([torch.zeros(8), own["s2"][1]]))
    spread = pool(latents, "spread", NAMES)[1]
    assert (spread[16:24] == 0).all()
    torch.testing.assert_close(spread[24:], (latents.tokens["s2"][1].var(0, unbiased=False) + 1e-6).sqrt())


def test_concat_keeps_the_place_of_a_modality_missing_from_the_batch() -> None:
    latents = _latents()
    del latents.tokens["s1"]
    expected = torch.cat([torch.zeros(2, 8), latents.tokens["s2"].mean(1)], dim=1)
    torch.testing.assert_close(pool(latents, "concat", NAMES), expected)
    torch.testing.assert_close(pool(latents, "mean", NAMES), latents.tokens["s2"].mean(1))


@READOUTS
@pytest.mark.parametrize("head", [ProbeHead, ClassifierHead])
def test_classifier_agrees_on_both_ways_to_miss_a_modality(
    make_encoder: Callable[..., Encoder], tiles: dict[str, Tensor], readout, head
) -> None:
    encoder = make_encoder()
    classifier = TilePredictor(Task(), encoder, readout, head(readout_dim(encoder, readout), 4)).eval()
    by_tiles = classifier({"s2": tiles["s2"]})
    by_presence = classifier(tiles | {"s1": tiles["s1"] * torch.nan}, torch.tensor([[False, True]] * 3))
    assert by_tiles.shape == (3, 4)
    torch.testing.assert_close(by_tiles, by_presence, atol=1e-5, rtol=0)


def test_probe_head_standardises_without_parameters() -> None:
    head = ProbeHead(8, 3)
    assert {name for name, _ in head.named_parameters()} == {"linear.weight", "linear.bias"}
    pooled = torch.randn(64, 8) * 5 + 3
    standard = head.norm(pooled)
    torch.testing.assert_close(standard.mean(0), torch.zeros(8), atol=1e-5, rtol=0)


@READOUTS
def test_finetuning_reaches_the_embeddings(
    make_encoder: Callable[..., Encoder], tiles: dict[str, Tensor], readout
) -> None:
    encoder = make_encoder()
    head = ClassifierHead(readout_dim(encoder, readout), 4)
    TilePredictor(Task(), encoder, readout, head)(tiles).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in encoder.parameters())
