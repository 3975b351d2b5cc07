import pytest
import torch

from fusmae.data.augment import apply_geometry
from fusmae.models.fusmae import reconstruction_loss

AUGMENT = {"flip": True, "turn": True, "min_crop": 0.8}


@pytest.fixture
def batch(make_data):
    return next(iter(make_data(augment=AUGMENT).train_dataloader()))


def loss_of(module, batch) -> float:
    return sum(reconstruction_loss(found).item() for found in module.model(*module.masked(batch)).values())


def test_one_step_changes_every_weight_of_the_model(make_reconstructor, make_data, tmp_path, train, weights_of):
    module = make_reconstructor()
    before = weights_of(module)
    train(module, make_data(17), tmp_path, epochs=1)
    same = [name for name, tensor in module.state_dict().items() if torch.equal(tensor, before[name])]
    assert same == []


def test_training_lowers_the_loss_of_the_batch_that_it_sees(make_reconstructor, make_data, tmp_path, train):
    module, data = make_reconstructor(base_lr=1.0), make_data(17)
    batch = next(iter(data.train_dataloader()))
    before = loss_of(module, batch)
    train(module, data, tmp_path, epochs=25)
    assert loss_of(module, batch) < 0.9 * before


def test_loss_is_the_sum_of_the_modalities_losses_one_to_one(make_reconstructor, batch):
    module = make_reconstructor()
    losses = [reconstruction_loss(item) for item in module.model(*module.masked(batch)).values()]
    assert len(losses) == 2
    assert module.training_step(batch, 0).item() == pytest.approx(sum(loss.item() for loss in losses), rel=1e-6)


def test_loss_under_a_fixed_seed_repeats_bit_by_bit(make_reconstructor, make_data):
    def losses(seed: int) -> list[float]:
        module = make_reconstructor()
        loader = make_data(augment=AUGMENT, modality_drop=0.5, seed=seed).train_dataloader()
        return [module.training_step(batch, at).item() for at, batch in enumerate(loader)]

    assert losses(0) == losses(0)
    assert losses(0) != losses(1)


def test_a_refactoring_shows_the_same_loss(make_reconstructor, batch):
    """Measured once: a change of initial weights, model, order of pairs, masks or geometry shows here."""
    assert make_reconstructor().training_step(batch, 0).item() == pytest.approx(2.267190, rel=1e-4)


def test_a_dropped_modality_has_no_loss_and_its_pixels_do_not_matter(make_reconstructor, batch):
    module = make_reconstructor()
    without = batch._replace(dropped="s1")
    assert list(module.model(*module.masked(without))) == ["s2"]
    poisoned = without._replace(pixels=batch.pixels | {"s1_10m": torch.full_like(batch.pixels["s1_10m"], torch.nan)})
    assert module.training_step(poisoned, 0).item() == module.training_step(without, 0).item()
    assert module.training_step(without, 0).item() != module.training_step(batch, 0).item()


def test_each_patch_of_an_epochs_batches_is_removed_equally_often_and_apart_from_the_other_modality(
    make_reconstructor, make_data
):
    """From the keyed noise of the loader: 7 of 9 patches are removed."""
    model, loader = make_reconstructor().model, make_data(17).train_dataloader()
    removed = {"s1": [], "s2": []}
    for epoch in range(150):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            for name, mask in model.draw_masks(dict.fromkeys(batch.noise), batch.noise).items():
                assert (mask.mask.sum(1) == 7).all()
                removed[name].append(mask.mask)
    s1, s2 = (torch.cat(masks) for masks in removed.values())
    assert len(s1) == 150 * 17
    for share, expected in ((s1.mean(0), 7 / 9), (s2.mean(0), 7 / 9), ((s1 * s2).mean(0), (7 / 9) ** 2)):
        # Five standard deviations of a share of 2550 draws.
        torch.testing.assert_close(share, torch.full((9,), expected), atol=0.05, rtol=0)


def test_augmented_pixels_are_what_is_masked_and_wanted(make_reconstructor, batch):
    module = make_reconstructor()
    tiles = apply_geometry(module.preprocess(batch.pixels), batch.geometry)
    expected = module.model(tiles, module.model.draw_masks(tiles, batch.noise))
    found = module.model(*module.masked(batch))
    for key in ("s1", "s2"):
        assert torch.equal(found[key].target, expected[key].target)
    plain = module.model(*module.masked(batch._replace(geometry=torch.eye(2, 3).expand(4, -1, -1))))
    assert not torch.equal(plain["s1"].target, found["s1"].target)


def test_every_modality_and_their_sum_are_logged_for_both_splits(make_reconstructor, make_data, tmp_path, train):
    trainer = train(make_reconstructor(), make_data(), tmp_path, epochs=1)
    logged = {name: value.item() for name, value in trainer.callback_metrics.items()}
    assert set(logged) == {
        f"{split}/{name}" for split in ("train", "validation") for name in ("loss", "loss_s1", "loss_s2")
    }
    for split in ("train", "validation"):
        assert logged[f"{split}/loss"] == pytest.approx(logged[f"{split}/loss_s1"] + logged[f"{split}/loss_s2"])


def test_validation_loss_is_that_of_the_whole_split_under_the_same_masks(
    make_reconstructor, make_data, tmp_path, train
):
    """Batches of 4 and 1 count by their pairs."""
    module, data = make_reconstructor(), make_data()
    trainer = train(module, data, tmp_path, epochs=2)
    whole = next(iter(make_data(5).loader("validation")))
    with torch.no_grad():
        found = module.eval().model(*module.masked(whole))
        losses = {key: reconstruction_loss(item).item() for key, item in found.items()}
    for key, loss in losses.items():
        assert trainer.callback_metrics[f"validation/loss_{key}"].item() == pytest.approx(loss, rel=1e-5)
