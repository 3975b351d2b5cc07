import pytest
import torch
from torch import Tensor

from fusmae.models.attention import CrossAttention, DropPath, XAttnDecoder, XAttnEncoder

NAMES = ("s1", "s2")


def _tokens(names: tuple[str, ...] = NAMES, lengths: tuple[int, ...] = (3, 5, 4)) -> dict[str, Tensor]:
    return {name: torch.randn(2, length, 16) for name, length in zip(names, lengths, strict=False)}


def test_cross_attention_equals_softmax_of_scores() -> None:
    attention = CrossAttention(16, num_heads=2)
    query, context = torch.randn(2, 3, 16), torch.randn(2, 5, 16)
    q, (k, v) = attention.q(query), attention.kv(context).chunk(2, dim=-1)
    heads = []
    for part in (slice(0, 8), slice(8, 16)):
        scores = (q[..., part] @ k[..., part].mT / 8**0.5).softmax(-1)
        heads.append(scores @ v[..., part])
    torch.testing.assert_close(attention(query, context), attention.proj(torch.cat(heads, -1)))


def test_key_mask_equals_a_shorter_context() -> None:
    attention = CrossAttention(16, num_heads=2)
    query, context = torch.randn(2, 3, 16), torch.randn(2, 5, 16)
    key_mask = torch.tensor([[True, True, False, True, False]] * 2)
    torch.testing.assert_close(attention(query, context, key_mask), attention(query, context[:, [0, 1, 3]]))


def test_attention_is_torchs_fused_one(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    fused = torch.nn.functional.scaled_dot_product_attention

    def counted(*args: Tensor, **options: Tensor) -> Tensor:
        calls.append(args)
        return fused(*args, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
    XAttnEncoder(NAMES, 16, 2)(_tokens())
    assert len(calls) == 2


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="heads"):
        CrossAttention(16, num_heads=3)


def test_early_fusion_joins_tokens_and_keeps_the_width() -> None:
    assert XAttnEncoder(NAMES, 16, 2)(_tokens()).shape == (2, 3 + 5, 16)


def test_early_fusion_alone_carries_s1_into_s2() -> None:
    block, tokens = XAttnEncoder(NAMES, 16, 2), _tokens()
    before = block(tokens)[:, 3:]
    after = block(tokens | {"s1": torch.randn(2, 3, 16)})[:, 3:]
    assert (before - after).abs().amax(dim=(1, 2)).min() > 1e-3


def test_each_modality_attends_with_its_own_weights_and_sees_only_its_counterpart() -> None:
    block, tokens = XAttnEncoder(NAMES, 16, 2), _tokens()
    before = block(tokens)
    with torch.no_grad():
        block.attentions["s1"].q.weight.normal_()
    after = block(tokens)
    assert not torch.allclose(before[:, :3], after[:, :3])
    assert torch.equal(before[:, 3:], after[:, 3:])
    # A token of s2 doesn't see its neighbours of s2 in this block.
    tokens["s2"][:, 0] += 1.0
    moved = block(tokens)
    torch.testing.assert_close(after[:, 4:], moved[:, 4:])


def test_early_fusion_follows_its_formula() -> None:
    block, tokens = XAttnEncoder(NAMES, 16, 2), _tokens()
    normed = {name: block.norms[name](own) for name, own in tokens.items()}
    fused = [
        tokens["s1"] + block.attentions["s1"](normed["s1"], normed["s2"]),
        tokens["s2"] + block.attentions["s2"](normed["s2"], normed["s1"]),
    ]
    joined = torch.cat(fused, dim=1)
    torch.testing.assert_close(block(tokens), joined + block.mlp(block.norm(joined)))


def test_modality_without_a_counterpart_keeps_only_its_residual() -> None:
    block, tokens = XAttnEncoder(NAMES, 16, 2), _tokens()
    own = tokens["s2"]
    torch.testing.assert_close(block({"s2": own}), own + block.mlp(block.norm(own)))
    decoder = XAttnDecoder(NAMES, 16, 2)
    torch.testing.assert_close(decoder({"s2": own})["s2"], own + decoder.mlps["s2"](decoder.norms["s2"](own)))


@pytest.mark.parametrize("names", [NAMES, ("s1", "s2", "dem")])
def test_presence_equals_leaving_a_modality_out(names: tuple[str, ...]) -> None:
    block, tokens = XAttnEncoder(names, 16, 2), _tokens(names)
    presence = {name: torch.tensor([True, name != "s1"]) for name in names}
    both, rest = block(tokens), {name: tokens[name] for name in names[1:]}
    fused = block(tokens, presence)
    torch.testing.assert_close(fused[0], both[0])
    torch.testing.assert_close(fused[1, 3:], block(rest)[1])


def test_gradients_stay_finite_where_a_row_has_no_counterpart() -> None:
    block, tokens = XAttnEncoder(NAMES, 16, 2), _tokens()
    block(tokens, {"s1": torch.tensor([True, False]), "s2": torch.tensor([True, True])}).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in block.parameters())


def test_feature_fusion_keeps_shapes_and_carries_s1_into_s2() -> None:
    block, tokens = XAttnDecoder(NAMES, 16, 2), _tokens()
    before = block(tokens)
    assert {name: fused.shape for name, fused in before.items()} == {"s1": (2, 3, 16), "s2": (2, 5, 16)}
    after = block(tokens | {"s1": torch.randn(2, 3, 16)})
    assert (before["s2"] - after["s2"]).abs().max() > 1e-3


def test_feature_fusion_follows_its_formula() -> None:
    block, tokens = XAttnDecoder(NAMES, 16, 2), _tokens()
    fused = tokens["s1"] + block.attentions["s1"](tokens["s1"], tokens["s2"])
    torch.testing.assert_close(block(tokens)["s1"], fused + block.mlps["s1"](block.norms["s1"](fused)))


@pytest.mark.parametrize("block", [XAttnEncoder, XAttnDecoder])
def test_fusion_of_one_modality_is_refused(block: type[XAttnEncoder | XAttnDecoder]) -> None:
    with pytest.raises(ValueError, match="two modalities"):
        block(("s2",), 16, 2)


def test_rows_are_left_out_by_the_noise_told_and_the_others_are_scaled_up():
    path = DropPath(0.25).train()
    path.noise = torch.tensor([0.0, 0.2499, 0.25, 0.9])
    found = path(torch.full((4, 2, 3), 3.0))
    assert found[:2].eq(0).all()
    assert found[2:].eq(4.0).all()


def test_without_noise_told_it_draws_its_share():
    torch.manual_seed(0)
    rows = DropPath(0.3).train()(torch.ones(10_000, 1, 1))
    assert 0.28 < rows.eq(0).float().mean() < 0.32
    assert abs(rows.mean() - 1) < 0.02


def test_in_evaluation_nothing_is_left_out():
    path = DropPath(0.9).eval()
    path.noise = torch.zeros(2)
    branch = torch.ones(2, 1, 1)
    assert path(branch) is branch
