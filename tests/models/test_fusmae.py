from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from fusmae.models.fusmae import FusMAE, Reconstruction, reconstruction_loss
from fusmae.models.tokens import patchify, unpatchify

MakeFusMAE = Callable[..., FusMAE]
Tiles = dict[str, Tensor]


def masked(model: FusMAE, tiles: Tiles, noise: Tiles) -> dict[str, Reconstruction]:
    """The reconstruction under the masks of a noise."""
    return model(tiles, model.draw_masks(tiles, noise))


def _total_loss(reconstructions: dict[str, Reconstruction]) -> Tensor:
    return torch.stack([reconstruction_loss(item) for item in reconstructions.values()]).sum()


def test_loss_ignores_visible_patches(make_fusmae: MakeFusMAE, tiles: Tiles, noise: Tiles):
    for item in masked(make_fusmae(), tiles, noise).values():
        visible = (item.mask == 0).unsqueeze(-1)
        assert visible.any()
        other = replace(item, pred=torch.where(visible, torch.nan, item.pred))
        assert torch.equal(reconstruction_loss(other), reconstruction_loss(item))


def test_pixels_of_visible_patches_are_no_target(make_fusmae: MakeFusMAE, tiles: Tiles, noise: Tiles):
    """The same predictions, set beside a tile whose visible patches are others, cost the same."""
    model = make_fusmae()
    masks = model.draw_masks(tiles, noise)
    other = {}
    for name, tile in tiles.items():
        patches = torch.where(masks[name].mask[..., None] == 1, patchify(tile, 4), 9.0)
        other[name] = unpatchify(patches, 4)
    before, changed = (_total_loss(model(wanted, masks)) for wanted in (tiles, other))
    assert not torch.equal(changed, before)
    latents = model.encoder(tiles, masks)
    model.encoder.forward = lambda *_: latents
    assert torch.equal(_total_loss(model(other, masks)), before)


def test_loss_sees_every_removed_patch(make_fusmae: MakeFusMAE, tiles: Tiles, noise: Tiles):
    item = masked(make_fusmae(), tiles, noise)["s2"]
    pred = item.pred.detach().requires_grad_()
    reconstruction_loss(replace(item, pred=pred)).backward()
    assert torch.equal((pred.grad.abs().sum(-1) > 0).float(), item.mask)


@pytest.mark.parametrize("target_norm", ["patch", "group", "band"])
def test_loss_equals_a_numpy_computation(make_fusmae: MakeFusMAE, tiles: Tiles, noise: Tiles, target_norm):
    item = masked(make_fusmae(target_norm=target_norm), tiles, noise)["s2"]
    tile, ids, pred = tiles["s2"].numpy(), item.ids.numpy(), item.pred.detach().numpy()
    bands = {"patch": [range(5)], "group": [range(2), range(2, 5)], "band": []}[target_norm]
    visible = np.argsort(noise["s2"].numpy(), axis=1)[:, :4]
    errors = []
    for row in range(3):
        for place, patch in enumerate(ids[row]):
            if patch in visible[row]:
                continue
            top, left = 4 * (patch // 4), 4 * (patch % 4)
            truth = tile[row, :, top : top + 4, left : left + 4].astype(np.float64)
            for group in bands:
                part = truth[list(group)]
                truth[list(group)] = (part - part.mean()) / np.sqrt(part.var(ddof=1) + 1e-6)
            errors.append(np.mean((pred[row, place] - truth.flatten()) ** 2))
    assert len(errors) == 3 * 12
    assert reconstruction_loss(item).item() == pytest.approx(np.mean(errors), rel=1e-5)


def test_loss_without_removed_patches_is_zero(make_fusmae: MakeFusMAE, tiles: Tiles, noise: Tiles):
    reconstructions = masked(make_fusmae(mask_ratio={"s1": 0.0, "s2": 0.0}), tiles, noise)
    assert _total_loss(reconstructions).item() == 0.0


def test_positions_reach_the_decoder(make_fusmae: MakeFusMAE):
    decoder = make_fusmae().decoders["s1"]
    latent = torch.zeros(1, 1, 16)
    pred = decoder(latent, torch.arange(16)[None])[0, 1:]
    assert torch.pdist(pred).min() > 1e-4
    decoder.positions.zero_()
    same = decoder(latent, torch.arange(16)[None])[0, 1:]
    torch.testing.assert_close(same, same[:1].expand_as(same))


def test_predictions_of_removed_patches_differ_and_go_with_their_positions(
    make_fusmae: MakeFusMAE, tiles: Tiles, noise: Tiles
):
    model = make_fusmae()
    before = masked(model, tiles, noise)["s1"]
    removed = before.pred.detach()[:, 4:]
    assert min(torch.pdist(row).min() for row in removed) > 1e-4
    positions = model.decoders["s1"].positions
    first, second = before.ids[0, 4:6].tolist()
    positions[[first, second]] = positions[[second, first]].clone()
    after = masked(model, tiles, noise)["s1"].pred.detach()[0, 4:]
    # Two mask tokens that change places change predictions, and nothing else moves.
    torch.testing.assert_close(after[[1, 0]], removed[0, :2], atol=1e-5, rtol=0)
    torch.testing.assert_close(after[2:], removed[0, 2:], atol=1e-5, rtol=0)


def test_decoding_order_does_not_matter(make_fusmae: MakeFusMAE):
    """The decoder runs in the drawn order; another order of masked patches gives the same predictions."""
    decoder, latent, ids = make_fusmae().decoders["s1"], torch.randn(1, 4, 16), torch.arange(16)[None]
    turned = torch.cat([ids[:, :4], ids[:, 4:].flip(1)], dim=1)
    torch.testing.assert_close(decoder(latent, ids)[:, 4:], decoder(latent, turned)[:, 4:].flip(1))


def test_everything_is_decoded_visible_first(make_fusmae: MakeFusMAE, tiles: Tiles, noise: Tiles):
    item = masked(make_fusmae(), tiles, noise)["s2"]
    assert item.pred.shape == item.target.shape == (3, 16, 5 * 16)
    assert torch.equal(item.mask, torch.tensor([[0.0] * 4 + [1.0] * 12] * 3))
    assert torch.equal(item.ids, noise["s2"].argsort(1))


@pytest.mark.parametrize(("fraction", "decoded"), [(0.5, 6), (0.01, 1), (1.0, 12)])
def test_decode_fraction_decodes_a_part_of_the_removed(
    make_fusmae: MakeFusMAE, tiles: Tiles, noise: Tiles, fraction, decoded
):
    model = make_fusmae(decode_fraction=fraction)
    item, mask = masked(model, tiles, noise)["s1"], model.draw_masks(tiles, noise)["s1"]
    assert item.pred.shape[1] == 4 + decoded
    assert (item.mask.sum(1) == decoded).all()
    chosen = item.ids[item.mask == 1].reshape(3, decoded)
    assert (mask.mask.gather(1, chosen) == 1).all()
    assert torch.equal(chosen, noise["s1"].argsort(1)[:, 4 : 4 + decoded])


def test_patches_not_decoded_do_not_enter_the_decoder(make_fusmae: MakeFusMAE, tiles: Tiles, noise: Tiles):
    lengths = []
    model = make_fusmae(decode_fraction=0.5)
    model.decoders["s1"].blocks[0].register_forward_hook(lambda _, args, out: lengths.append(args[0].shape[1]))
    masked(model, tiles, noise)
    assert lengths == [10]


def test_missing_modality_is_missing_from_the_result(make_fusmae: MakeFusMAE, tiles: Tiles, noise: Tiles):
    model = make_fusmae()
    alone = masked(model, {"s2": tiles["s2"]}, noise)
    assert list(alone) == ["s2"]
    assert torch.equal(alone["s2"].pred, masked(model, {"s2": tiles["s2"]}, {"s2": noise["s2"]})["s2"].pred)


@pytest.mark.parametrize("masking", ["independent", "consistent"])
@pytest.mark.parametrize("early_fusion", [True, False])
@pytest.mark.parametrize("feature_fusion", [True, False])
@pytest.mark.parametrize("target_norm", ["patch", "group", "band"])
def test_gradient_reaches_every_parameter(
    make_fusmae: MakeFusMAE, tiles: Tiles, noise: Tiles, early_fusion, feature_fusion, masking, target_norm
):
    model = make_fusmae(
        early_fusion=early_fusion, feature_fusion=feature_fusion, masking=masking, target_norm=target_norm
    )
    _total_loss(masked(model, tiles, noise)).backward()
    without = [name for name, item in model.named_parameters() if item.grad is None or not item.grad.any()]
    assert without == []


def test_switches_remove_parameters(make_fusmae: MakeFusMAE):
    def count(early: bool, feature: bool) -> tuple[int, set[str]]:
        names = {name for name, _ in make_fusmae(early_fusion=early, feature_fusion=feature).named_parameters()}
        return len(names), {name for name in names if "attentions" in name or "latent_fusion" in name}

    assert count(False, False)[1] == set()
    assert all(name.startswith("encoder.first_block") for name in count(True, False)[1])
    assert all(name.startswith("latent_fusion") for name in count(False, True)[1])
    assert count(True, True)[0] > count(False, True)[0] > count(False, False)[0]


def test_masking_switch_decides_who_hides_what(make_fusmae: MakeFusMAE, tiles: Tiles, noise: Tiles):
    same = masked(make_fusmae(masking="consistent"), tiles, noise)
    own = masked(make_fusmae(masking="independent"), tiles, noise)
    assert torch.equal(same["s1"].ids, same["s2"].ids)
    assert not torch.equal(own["s1"].ids, own["s2"].ids)


def test_feature_fusion_carries_s1_into_the_predictions_of_s2(make_fusmae: MakeFusMAE, tiles: Tiles):
    fusion = make_fusmae().latent_fusion
    latents = {"s1": torch.randn(2, 4, 16), "s2": torch.randn(2, 4, 16)}
    moved = fusion(latents | {"s1": torch.randn(2, 4, 16)})["s2"]
    assert (fusion(latents)["s2"] - moved).abs().max() > 1e-3


def test_rows_do_not_depend_on_each_other(make_fusmae: MakeFusMAE, tiles: Tiles, noise: Tiles):
    model = make_fusmae()
    joint = masked(model, tiles, noise)["s2"]
    alone = masked(
        model, {name: tile[1:2] for name, tile in tiles.items()}, {name: row[1:2] for name, row in noise.items()}
    )
    torch.testing.assert_close(joint.pred[1:2], alone["s2"].pred, atol=1e-5, rtol=0)


def test_same_noise_gives_the_same_loss(make_fusmae: MakeFusMAE, tiles: Tiles, noise: Tiles):
    model = make_fusmae()
    assert torch.equal(_total_loss(masked(model, tiles, noise)), _total_loss(masked(model, tiles, noise)))


@pytest.mark.parametrize("target_norm", ["patch", "group", "band"])
def test_perfect_prediction_draws_the_truth(make_fusmae: MakeFusMAE, tiles: Tiles, noise: Tiles, target_norm):
    model = make_fusmae(target_norm=target_norm)
    for name, item in masked(model, tiles, noise).items():
        drawn = model.pixels(name, replace(item, pred=item.target), tiles[name])
        torch.testing.assert_close(drawn, tiles[name], atol=1e-5, rtol=0)


def test_pictures_show_the_truth_where_visible_and_nan_where_not_decoded(
    make_fusmae: MakeFusMAE, tiles: Tiles, noise: Tiles
):
    model = make_fusmae(decode_fraction=0.5)
    drawn = patchify(model.pixels("s1", masked(model, tiles, noise)["s1"], tiles["s1"]), 4)
    mask = model.draw_masks(tiles, noise)["s1"]
    truth = patchify(tiles["s1"], 4)
    assert torch.equal(drawn[mask.mask == 0], truth[mask.mask == 0])
    assert (drawn.isnan().all(-1).sum(1) == 6).all()
    assert unpatchify(drawn, 4).shape == tiles["s1"].shape


def test_bf16_autocast_keeps_target_and_loss_in_float32(make_fusmae: MakeFusMAE, tiles: Tiles, noise: Tiles):
    model = make_fusmae(target_norm="group")
    expected = _total_loss(masked(model, tiles, noise))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        reconstructions = masked(model, tiles, noise)
        loss = _total_loss(reconstructions)
    assert {item.pred.dtype for item in reconstructions.values()} == {torch.bfloat16}
    assert {item.target.dtype for item in reconstructions.values()} == {torch.float32}
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=0.02)
    loss.backward()


def test_target_asks_for_no_gradient(make_fusmae: MakeFusMAE, tiles: Tiles, noise: Tiles):
    tiles["s1"].requires_grad_()
    assert not masked(make_fusmae(), tiles, noise)["s1"].target.requires_grad


def test_mask_ratio_of_every_modality_is_needed(make_fusmae: MakeFusMAE):
    with pytest.raises(ValueError, match="mask_ratio"):
        make_fusmae(mask_ratio={"s1": 0.75})


def test_one_modality_alone_is_a_model(make_fusmae: MakeFusMAE, tiles: Tiles, noise: Tiles):
    model = make_fusmae(groups={"s2": (2, 3)}, early_fusion=False, feature_fusion=False)
    assert list(masked(model, {"s2": tiles["s2"]}, noise)) == ["s2"]


def test_training_lowers_the_loss(make_fusmae: MakeFusMAE, tiles: Tiles, noise: Tiles):
    model = make_fusmae()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss = _total_loss(masked(model, tiles, noise))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
