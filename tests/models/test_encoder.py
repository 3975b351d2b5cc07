from collections.abc import Callable

import pytest
import torch
from timm.models._features import FeatureGetterNet
from torch import Tensor, nn

from fusmae.models.encoder import Encoder
from fusmae.models.masking import draw_masks
from fusmae.models.tokens import patchify, unpatchify

MakeEncoder = Callable[..., Encoder]
Tiles = dict[str, Tensor]
EARLY = pytest.mark.parametrize("early_fusion", [True, False])
RATIO = {"s1": 0.5, "s2": 0.75}


def _apart(first: Tensor, second: Tensor) -> bool:
    return bool((first - second).abs().amax() > 1e-3)


@EARLY
def test_latents_have_one_token_a_visible_patch(make_encoder: MakeEncoder, tiles: Tiles, noise: Tiles, early_fusion):
    masks = draw_masks(noise, RATIO, "independent")
    latents = make_encoder(early_fusion=early_fusion)(tiles, masks)
    assert latents.cls.shape == (3, 16)
    assert {name: tokens.shape for name, tokens in latents.tokens.items()} == {"s1": (3, 8, 16), "s2": (3, 4, 16)}


@EARLY
def test_removed_pixels_leave_no_trace(make_encoder: MakeEncoder, tiles: Tiles, noise: Tiles, early_fusion):
    encoder, masks = make_encoder(early_fusion=early_fusion), draw_masks(noise, RATIO, "independent")
    other = {}
    for name, tile in tiles.items():
        patches = torch.where(masks[name].mask[..., None] == 1, torch.nan, patchify(tile, 4))
        other[name] = unpatchify(patches, 4)
    before, after = encoder(tiles, masks), encoder(other, masks)
    assert torch.equal(before.cls, after.cls)
    assert all(torch.equal(before.tokens[name], after.tokens[name]) for name in tiles)


@EARLY
@pytest.mark.parametrize(("absent", "present"), [("s1", "s2"), ("s2", "s1")])
def test_both_ways_to_miss_a_modality_agree(make_encoder: MakeEncoder, tiles: Tiles, early_fusion, absent, present):
    encoder = make_encoder(early_fusion=early_fusion, depth=3)
    presence = torch.tensor([[name != absent for name in tiles]] * 3)
    by_tiles = encoder({present: tiles[present]})
    by_presence = encoder(tiles, presence=presence)
    torch.testing.assert_close(by_tiles.cls, by_presence.cls, atol=1e-5, rtol=0)
    torch.testing.assert_close(by_tiles.tokens[present], by_presence.tokens[present], atol=1e-5, rtol=0)
    assert list(by_tiles.tokens) == [present]


@EARLY
def test_both_ways_agree_under_masks(make_encoder: MakeEncoder, tiles: Tiles, noise: Tiles, early_fusion):
    encoder, masks = make_encoder(early_fusion=early_fusion), draw_masks(noise, RATIO, "independent")
    by_tiles = encoder({"s2": tiles["s2"]}, masks)
    by_presence = encoder(tiles, masks, torch.tensor([[False, True]] * 3))
    torch.testing.assert_close(by_tiles.tokens["s2"], by_presence.tokens["s2"], atol=1e-5, rtol=0)


@EARLY
@pytest.mark.parametrize("filler", [7.0, torch.nan, torch.inf])
def test_absent_s1_never_matters_even_nan(make_encoder: MakeEncoder, tiles: Tiles, early_fusion, filler):
    encoder = make_encoder(early_fusion=early_fusion)
    presence = torch.tensor([[True, True], [False, True], [False, True]])
    other = tiles | {"s1": torch.where(presence[:, :1, None, None], tiles["s1"], filler)}
    before, after = encoder(tiles, presence=presence), encoder(other, presence=presence)
    assert torch.equal(before.cls, after.cls)
    assert torch.equal(before.tokens["s2"], after.tokens["s2"])
    assert before.cls.isfinite().all()


@EARLY
def test_absent_nan_leaves_gradients_finite(make_encoder: MakeEncoder, tiles: Tiles, early_fusion):
    encoder = make_encoder(early_fusion=early_fusion)
    presence = torch.tensor([[True, True], [False, True], [True, False]])
    tiles["s1"][1], tiles["s2"][2] = torch.nan, torch.nan
    encoder(tiles, presence=presence).cls.sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in encoder.parameters())


@EARLY
def test_all_present_equals_no_presence(make_encoder: MakeEncoder, tiles: Tiles, early_fusion):
    encoder = make_encoder(early_fusion=early_fusion)
    plain, present = encoder(tiles), encoder(tiles, presence=torch.ones(3, 2, dtype=torch.bool))
    torch.testing.assert_close(plain.cls, present.cls, atol=1e-5, rtol=0)
    torch.testing.assert_close(plain.tokens, present.tokens, atol=1e-5, rtol=0)


@EARLY
def test_s1_reaches_the_latents_of_s2(make_encoder: MakeEncoder, tiles: Tiles, early_fusion):
    encoder = make_encoder(early_fusion=early_fusion)
    before, after = encoder(tiles), encoder(tiles | {"s1": torch.randn_like(tiles["s1"])})
    assert _apart(before.tokens["s2"], after.tokens["s2"])
    assert _apart(before.cls, after.cls)


@EARLY
def test_rows_do_not_depend_on_each_other(make_encoder: MakeEncoder, tiles: Tiles, early_fusion):
    encoder = make_encoder(early_fusion=early_fusion)
    presence = torch.tensor([[True, True], [False, True], [True, False]])
    joint = encoder(tiles, presence=presence)
    for row in range(3):
        alone = encoder({name: tile[row : row + 1] for name, tile in tiles.items()}, presence=presence[row : row + 1])
        torch.testing.assert_close(joint.cls[row], alone.cls[0], atol=1e-5, rtol=0)


def test_unmasked_tokens_keep_their_place(make_encoder: MakeEncoder, tiles: Tiles, noise: Tiles):
    """Masks that remove nothing only reorder: undone, they give the unmasked latents."""
    encoder, masks = make_encoder(), draw_masks(noise, {"s1": 0.0, "s2": 0.0}, "independent")
    plain, drawn = encoder(tiles), encoder(tiles, masks)
    for name, mask in masks.items():
        restored = drawn.tokens[name].gather(1, mask.ids.argsort(dim=1)[..., None].expand(-1, -1, 16))
        torch.testing.assert_close(restored, plain.tokens[name], atol=1e-5, rtol=0)


def test_modalities_are_split_in_the_models_order_not_the_callers(make_encoder: MakeEncoder, tiles: Tiles):
    encoder = make_encoder()
    turned = {name: tiles[name] for name in reversed(tiles)}
    assert list(encoder(turned).tokens) == ["s1", "s2"]
    assert torch.equal(encoder(turned).tokens["s2"], encoder(tiles).tokens["s2"])


def test_early_fusion_off_removes_its_parameters(make_encoder: MakeEncoder):
    on = {name for name, _ in make_encoder(early_fusion=True).named_parameters()}
    off = {name for name, _ in make_encoder(early_fusion=False).named_parameters()}
    assert any("attentions.s1" in name for name in on)
    assert not any("attentions" in name for name in off)
    assert {name for name in on if "first_block" not in name} == {name for name in off if "first_block" not in name}


@EARLY
def test_layers_run_from_the_embeddings_to_the_final_norm(make_encoder: MakeEncoder, early_fusion):
    encoder = make_encoder(early_fusion=early_fusion, depth=3)
    layers: dict[int, set[str]] = {}
    for name, _ in encoder.named_parameters():
        layers.setdefault(encoder.layer_of(name), set()).add(".".join(name.split(".")[:2]))
    assert encoder.num_layers == 4
    assert sorted(layers) == [0, 1, 2, 3, 4]
    assert layers[0] == {"cls_token", "embed.s1", "embed.s2"}
    assert layers[2] == {"blocks.0"}
    assert layers[3] == {"blocks.1"}
    assert layers[4] == {"norm.weight", "norm.bias"}
    with pytest.raises(ValueError, match="head"):
        encoder.layer_of("head.weight")


def test_drop_path_grows_linearly_from_block_zero(make_encoder: MakeEncoder):
    encoder = make_encoder(depth=4, drop_path=0.3)
    assert [block.drop_path1.drop_prob for block in encoder.blocks] == pytest.approx([0.1, 0.2, 0.3])


@EARLY
def test_attention_is_fused_everywhere(make_encoder: MakeEncoder, tiles: Tiles, early_fusion, monkeypatch):
    encoder, calls = make_encoder(early_fusion=early_fusion, depth=3), []
    fused = torch.nn.functional.scaled_dot_product_attention

    def counted(*args, **options):
        calls.append(options.get("attn_mask"))
        return fused(*args, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
    encoder(tiles)
    assert len(calls) == (2 if early_fusion else 1) + 2
    assert all(mask is None for mask in calls)


def test_weights_start_as_in_mae(make_encoder: MakeEncoder):
    encoder = make_encoder(dim=64)
    weight = encoder.embed["s2"].proj.weight
    bound = (6 / sum(weight.shape)) ** 0.5
    assert 0.9 * bound < weight.abs().max() <= bound
    assert 0.01 < encoder.cls_token.std() < 0.03
    for module in encoder.modules():
        if isinstance(module, nn.Linear | nn.LayerNorm):
            assert (module.bias == 0).all()
        if isinstance(module, nn.LayerNorm):
            assert (module.weight == 1).all()


@pytest.mark.parametrize("tiles_given", [{}, {"s3": torch.zeros(1, 2, 16, 16)}])
def test_no_or_unknown_modality_is_refused(make_encoder: MakeEncoder, tiles_given):
    with pytest.raises(ValueError, match="expected one or more of"):
        make_encoder()(tiles_given)


def test_presence_of_another_width_is_refused(make_encoder: MakeEncoder, tiles: Tiles):
    with pytest.raises(ValueError, match="columns"):
        make_encoder()(tiles, presence=torch.ones(3, 1, dtype=torch.bool))


def test_depth_of_one_is_refused(make_encoder: MakeEncoder):
    with pytest.raises(ValueError, match="depth"):
        make_encoder(depth=1)


def test_one_modality_alone_is_a_model(make_encoder: MakeEncoder, tiles: Tiles):
    encoder = make_encoder(groups={"s2": (2, 3)}, early_fusion=False)
    assert encoder({"s2": tiles["s2"]}).tokens["s2"].shape == (3, 16, 16)


@EARLY
def test_features_in_timm_s_form_are_the_latents(make_encoder: MakeEncoder, tiles: Tiles, early_fusion):
    encoder = make_encoder(early_fusion=early_fusion).eval()
    latents, features = encoder(tiles), encoder.forward_features(tiles)
    assert torch.equal(features, torch.cat([latents.cls[:, None], latents.tokens["s1"], latents.tokens["s2"]], dim=1))
    final, found = encoder.forward_intermediates(tiles, output_fmt="NLC", norm=True)
    assert torch.equal(final, features)
    assert len(found) == len(encoder.feature_info) == encoder.depth
    assert torch.equal(found[-1], features[:, 1:])


@EARLY
@pytest.mark.parametrize("names", [("s1", "s2"), ("s2",)])
def test_timm_s_own_wrapper_gives_a_map_per_block_that_is_the_mean_of_its_modalities(
    make_encoder: MakeEncoder, tiles: Tiles, early_fusion, names
):
    encoder, given = make_encoder(early_fusion=early_fusion).eval(), {name: tiles[name] for name in names}
    wrapped = FeatureGetterNet(encoder, out_indices=[0, -1])
    assert wrapped.feature_info.channels() == [encoder.dim, encoder.dim]
    assert wrapped.feature_info.reduction() == [4, 4]
    modules = dict(encoder.named_modules())
    assert all(info["module"] in modules for info in encoder.feature_info)
    first, last = wrapped(given)
    side = tiles["s1"].shape[-1] // 4
    assert first.shape == last.shape == (3, encoder.dim, side, side)
    patches = encoder.forward_intermediates(given, [encoder.depth - 1], output_fmt="NLC", intermediates_only=True)[0]
    by_modality = patches.reshape(3, len(names), side, side, encoder.dim)
    torch.testing.assert_close(last[:, :, 1, 2], by_modality[:, :, 1, 2].mean(1))
    with pytest.raises(ValueError, match="expected NCHW or NLC"):
        encoder.forward_intermediates(given, output_fmt="NHWC")
