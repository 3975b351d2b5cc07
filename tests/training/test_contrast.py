import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from fusmae.models.encoder import Latents
from fusmae.models.fusmae import FusMAE, reconstruction_loss
from fusmae.models.tokens import patchify, unpatchify
from fusmae.models.weights import load_weights
from fusmae.training.checkpoint import part_of
from fusmae.training.reconstruction import TEMPERATURE, Contrast, info_nce, start_pretraining
from tests.sections import model_section, pretrain_section


def unit_rows(count: int, dim: int) -> Tensor:
    return F.normalize(torch.randn(count, dim), dim=1)


def contrastive_loss(module, batch) -> float:
    """Of a batch that isn't augmented."""
    tiles = module.preprocess(batch.pixels)
    with torch.no_grad():
        return module.contrast(module.model.encoder, tiles, module.model.draw_masks(tiles, batch.noise)).item()


@pytest.fixture
def batch(make_data):
    return make_data().first("train", 4)


@pytest.fixture
def views_of():
    """What a module compares, by modality: rows of length 1."""

    def views(module, tiles, noise) -> dict[str, Tensor]:
        seen = []
        masks = module.model.draw_masks(tiles, noise)
        module.contrast(module.model.encoder, tiles, masks, lambda rows: seen.append(rows) or rows)
        return dict(zip(tiles, seen, strict=True))

    return views


def test_rows_that_match_and_are_far_from_all_others_cost_next_to_nothing():
    rows = torch.eye(16)
    assert 0 < info_nce(rows, rows).item() < 1e-4
    assert info_nce(rows, rows.roll(1, 0)).item() > 10


def test_rows_that_say_nothing_cost_log_of_their_number():
    same = unit_rows(1, 8).expand(32, -1)
    assert info_nce(same, same).item() == pytest.approx(math.log(32), abs=1e-4)
    # In so many dimensions chance rows are nearly at right angles.
    assert info_nce(unit_rows(64, 4096), unit_rows(64, 4096)).item() == pytest.approx(math.log(64), abs=0.1)


def test_loss_is_the_cross_entropy_of_the_counterpart_both_ways():
    one, other = unit_rows(5, 3), unit_rows(5, 3)
    odds = np.exp(one.numpy().astype(np.float64) @ other.numpy().T.astype(np.float64) / TEMPERATURE)
    there, back = (-np.log(np.diag(odds) / odds.sum(axis=axis)).mean() for axis in (1, 0))
    assert there != pytest.approx(back, rel=1e-3)
    assert info_nce(one, other).item() == pytest.approx((there + back) / 2, rel=1e-5)
    assert info_nce(other, one).item() == pytest.approx((there + back) / 2, rel=1e-5)


def test_similarities_are_float32_under_autocast():
    one, other = unit_rows(8, 16), unit_rows(8, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = info_nce(one, other)
    assert torch.equal(found, info_nce(one, other))


def test_no_view_sees_another_modality(make_reconstructor, batch, views_of):
    """Cross-attention stands in the encoder, and is left out: else matching were trivial."""
    module = make_reconstructor(contrastive_weight=1.0)
    tiles = module.preprocess(batch.pixels)
    before = views_of(module, tiles, batch.noise)
    after = views_of(module, tiles | {"s2": torch.randn_like(tiles["s2"])}, batch.noise)
    assert list(before) == ["s1", "s2"]
    assert torch.equal(after["s1"], before["s1"])
    assert (after["s2"] - before["s2"]).abs().max() > 1e-3
    together = module.model.encoder(tiles)
    assert not torch.allclose(together.tokens["s1"], module.model.encoder({"s1": tiles["s1"]}).tokens["s1"], atol=1e-3)


def test_views_have_length_one_and_are_of_visible_patches_alone(make_reconstructor, batch, views_of):
    module = make_reconstructor(contrastive_weight=1.0)
    tiles = module.preprocess(batch.pixels)
    masks = module.model.draw_masks(tiles, batch.noise)
    before = views_of(module, tiles, batch.noise)
    hidden = {
        name: unpatchify(torch.where(masks[name].mask[..., None] == 1, torch.nan, patchify(tile, 8)), 8)
        for name, tile in tiles.items()
    }
    after = views_of(module, hidden, batch.noise)
    for name, view in before.items():
        torch.testing.assert_close(view.norm(dim=1), torch.ones(4))
        assert torch.equal(after[name], view)


def test_each_two_of_three_modalities_are_compared():
    torch.manual_seed(0)
    contrast = Contrast(("a", "b", "c"), 8)

    class Encoder(torch.nn.Module):
        in_chans = dict.fromkeys("abc", 1)

        def forward(self, tiles, masks):
            return Latents(cls=torch.zeros(4, 8), tokens=tiles, presence=None)

    tiles, seen = {name: torch.randn(4, 3, 8) for name in "abc"}, []
    loss = contrast(Encoder(), tiles, dict.fromkeys("abc"), lambda rows: seen.append(rows) or rows)
    a, b, c = seen
    expected = (info_nce(a, b) + info_nce(a, c) + info_nce(b, c)) / 3
    torch.testing.assert_close(loss, expected)


def test_total_is_the_weighed_sum_of_both_terms(make_reconstructor, batch):
    module = make_reconstructor(reconstruction_weight=2.0, contrastive_weight=0.3)
    reconstruction = sum(reconstruction_loss(found) for found in module.model(*module.masked(batch)).values())
    contrastive = contrastive_loss(module, batch)
    assert contrastive > 0.1
    expected = 2.0 * reconstruction.item() + 0.3 * contrastive
    assert module.training_step(batch, 0).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0), (1.0, 0.5)])
def test_tiles_and_masks_are_made_once_per_step_whatever_the_losses(make_reconstructor, batch, weights, monkeypatch):
    module = make_reconstructor(reconstruction_weight=weights[0], contrastive_weight=weights[1])
    tiles, masks, draw = [], [], module.model.draw_masks
    module.preprocess.register_forward_hook(lambda *_: tiles.append(1))
    monkeypatch.setattr(module.model, "draw_masks", lambda *given: masks.append(1) or draw(*given))
    for step in (1, 2):
        module.training_step(batch, step)
        assert len(tiles) == len(masks) == step


def test_the_contrastive_term_is_logged_beside_the_others(make_reconstructor, make_data, tmp_path, train):
    trainer = train(make_reconstructor(contrastive_weight=0.5), make_data(), tmp_path, epochs=1)
    logged = {name: value.item() for name, value in trainer.callback_metrics.items()}
    for split in ("train", "validation"):
        parts = [logged[f"{split}/{name}"] for name in ("loss_s1", "loss_s2", "loss_contrastive")]
        assert logged[f"{split}/loss"] == pytest.approx(parts[0] + parts[1] + 0.5 * parts[2], rel=1e-5)


def test_a_batch_without_one_modality_leaves_the_contrastive_term_out(make_reconstructor, batch):
    with_term, without = make_reconstructor(contrastive_weight=0.5), make_reconstructor()
    alone = batch._replace(dropped="s1")
    assert torch.equal(with_term.training_step(alone, 0), without.training_step(alone, 0))
    assert not torch.equal(with_term.training_step(batch, 0), without.training_step(batch, 0))


def test_without_the_term_nothing_is_drawn_and_nothing_added(make_reconstructor, batch):
    module = make_reconstructor()
    after_building = torch.get_rng_state()
    losses = torch.stack([reconstruction_loss(found) for found in module.model(*module.masked(batch)).values()])
    assert torch.equal(module.training_step(batch, 0), losses.sum())
    assert torch.equal(torch.get_rng_state(), after_building)
    assert module.contrast is None
    assert all(name.startswith("model.") for name in module.state_dict())
    make_reconstructor(contrastive_weight=0.5)
    assert not torch.equal(torch.get_rng_state(), after_building)


def test_initial_weights_are_the_same_with_and_without_the_term(preprocessing):
    def start(weight: float):
        recipe = pretrain_section(contrastive_weight=weight)
        return start_pretraining(model_section(), preprocessing, recipe, seed=3)[1]

    without, with_term = start(0.0), start(0.5)
    assert without.weights.keys() == with_term.weights.keys()
    assert all(torch.equal(tensor, with_term.weights[name]) for name, tensor in without.weights.items())
    torch.manual_seed(3)
    plain = FusMAE(without.architecture).state_dict()
    assert all(torch.equal(tensor, plain[name]) for name, tensor in without.weights.items())


def test_projections_learn_and_are_no_part_of_the_published_weights(
    make_reconstructor, make_data, tmp_path, train, weights_of, architecture
):
    module = make_reconstructor(contrastive_weight=0.5)
    before = weights_of(module)
    trainer = train(module, make_data(17), tmp_path, epochs=1)
    trained = trainer.strategy.lightning_module_state_dict()
    projections = [name for name in trained if not name.startswith("model.")]
    assert projections == [
        f"contrast.projections.{name}.{part}" for name in ("s1", "s2") for part in ("weight", "bias")
    ]
    assert all(not torch.equal(trained[name], before[name]) for name in projections)
    load_weights(FusMAE(architecture), part_of(trained, "model."), "here")


def test_without_reconstruction_nothing_is_decoded_and_no_decoder_changes(
    make_reconstructor, make_data, tmp_path, train, weights_of
):
    module = make_reconstructor(reconstruction_weight=0.0, contrastive_weight=1.0)
    before, decoded = weights_of(module), []
    for decoder in module.model.decoders.values():
        decoder.register_forward_hook(lambda *_: decoded.append(1))
    trainer = train(module, make_data(), tmp_path, epochs=1)
    assert decoded == []
    assert not any("loss_s" in name for name in trainer.callback_metrics)
    changed = {name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {name.split(".")[0] + "." + name.split(".")[1] for name in changed} == {
        "model.encoder", "contrast.projections"
    }  # fmt: skip


def test_training_by_the_contrastive_term_alone_matches_the_pairs_it_sees(
    make_reconstructor, make_data, tmp_path, train
):
    module, data = make_reconstructor(base_lr=1.0, reconstruction_weight=0.0, contrastive_weight=1.0), make_data(17)
    batch = next(iter(data.train_dataloader()))
    before = contrastive_loss(module, batch)
    train(module, data, tmp_path, epochs=40)
    assert before > 0.9 * math.log(17)
    assert contrastive_loss(module, batch) < 0.6 * before


class CutError(BaseException):
    """Like a kill."""


class CutOff(Callback):
    """Ends the process's work before the sixth step, in the second epoch."""

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        if trainer.global_step == 5:
            raise CutError


def test_a_run_with_the_term_cut_off_ends_with_the_weights_of_an_undisturbed_one(
    make_reconstructor, make_data, tmp_path, train
):
    undisturbed, cut_off, resumed = (make_reconstructor(contrastive_weight=0.5) for _ in range(3))
    train(undisturbed, make_data(modality_drop=0.3), tmp_path / "a")
    with pytest.raises(CutError):
        train(cut_off, make_data(modality_drop=0.3), tmp_path / "b", CutOff())
    train(resumed, make_data(modality_drop=0.3), tmp_path / "b")
    expected = undisturbed.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in resumed.state_dict().items())
