import numpy as np
import pytest
import torch

from fusmae.evaluation.diagnostics import mean_errors, reconstruction_errors, target_band_means
from fusmae.models.architecture import Architecture
from fusmae.models.fusmae import FusMAE, reconstruction_loss
from fusmae.models.tokens import patchify
from tests.sections import model_section

SIDE, PATCH, PATCHES = 24, 8, 9


def built(target_norm="band", decode_fraction=1.0, masking="independent", ratio=0.75) -> FusMAE:
    torch.manual_seed(0)
    section = model_section(
        patch_px=PATCH,
        masking=masking,
        mask_ratio={"s1": ratio, "s2": 0.5},
        target_norm=target_norm,
        decode_fraction=decode_fraction,
    )
    architecture = Architecture(**section.model_dump(), groups={"s1": (2,), "s2": (2, 1)}, tile_px=SIDE)
    return FusMAE(architecture).eval()


@pytest.fixture
def tiles() -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    return {
        "s1": torch.randn(5, 2, SIDE, SIDE, generator=random) + 1,
        "s2": torch.randn(5, 3, SIDE, SIDE, generator=random) * torch.tensor([1.0, 2.0, 3.0])[:, None, None] - 2,
    }


@pytest.fixture
def noise() -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(2)
    return {name: torch.rand(5, PATCHES, generator=random) for name in ("s1", "s2")}


@pytest.mark.parametrize("target_norm", ["patch", "group", "band"])
def test_the_models_error_is_its_own_loss(tiles, noise, target_norm):
    model = built(target_norm)
    found = reconstruction_errors(model, tiles, noise, target_band_means(model, [tiles]))
    for name, reconstruction in model(tiles, model.draw_masks(tiles, noise)).items():
        assert mean_errors(found[name])["model"] == pytest.approx(reconstruction_loss(reconstruction).item(), rel=1e-5)
    assert {name: errors[-1] for name, errors in found.items()} == {"s1": 35, "s2": 20}


def test_every_removed_patch_counts_whatever_training_decodes(tiles, noise):
    means = target_band_means(built(), [tiles])
    partly, whole = built(decode_fraction=0.3), reconstruction_errors(built(), tiles, noise, means)
    for name, errors in reconstruction_errors(partly, tiles, noise, means).items():
        np.testing.assert_array_equal(errors, whole[name])


@pytest.mark.parametrize("target_norm", ["patch", "group", "band"])
def test_batches_add_up(tiles, noise, target_norm):
    model = built(target_norm)
    means = target_band_means(model, [tiles])
    whole = reconstruction_errors(model, tiles, noise, means)
    cut = [{name: values[rows] for name, values in tiles.items()} for rows in (slice(0, 2), slice(2, 5))]
    cut_noise = [{name: values[rows] for name, values in noise.items()} for rows in (slice(0, 2), slice(2, 5))]
    parts = [reconstruction_errors(model, *batch, means) for batch in zip(cut, cut_noise, strict=True)]
    for name, errors in whole.items():
        added = parts[0][name] + parts[1][name]
        assert added[-1] == errors[-1]
        assert added == pytest.approx(errors, rel=1e-5)
        torch.testing.assert_close(target_band_means(model, cut)[name], means[name], atol=1e-6, rtol=1e-5)


def test_band_means_are_the_best_constants_of_the_targets(tiles):
    for name, means in target_band_means(built("band"), [tiles]).items():
        torch.testing.assert_close(means, tiles[name].mean(dim=(0, 2, 3)), atol=1e-5, rtol=1e-5)
    # Two bands of one group, normalised together: what one is above the patch's mean the other is below it.
    grouped = target_band_means(built("group"), [tiles])["s2"]
    assert grouped[:2].sum().item() == pytest.approx(0, abs=1e-5)
    assert grouped[2].item() == pytest.approx(0, abs=1e-5)


def test_a_band_mean_is_perfect_where_each_band_is_constant(noise):
    flat = {
        "s1": torch.tensor([1.0, -2.0]).reshape(1, 2, 1, 1).expand(5, 2, SIDE, SIDE),
        "s2": torch.tensor([0.5, 3.0, -1.0]).reshape(1, 3, 1, 1).expand(5, 3, SIDE, SIDE),
    }
    model = built("band")
    for sums in reconstruction_errors(model, flat, noise, target_band_means(model, [flat])).values():
        errors = mean_errors(sums)
        assert errors["band mean"] == pytest.approx(0, abs=1e-10)
        assert errors["nearest"] == 0
        assert errors["model"] > 0.01


def test_tiles_constant_in_themselves_are_filled_by_their_neighbours_but_not_by_the_mean_of_all(noise):
    flat = {"s1": torch.arange(5.0).reshape(5, 1, 1, 1).expand(5, 2, SIDE, SIDE)}
    model = built("band")
    found = mean_errors(reconstruction_errors(model, flat, noise, target_band_means(model, [flat]))["s1"])
    assert found["nearest"] == 0
    assert found["band mean"] == pytest.approx(2.0)


@pytest.mark.parametrize("target_norm", ["patch", "band"])
def test_the_nearest_fill_is_the_nearest_visible_patch_with_its_own_moments(tiles, noise, target_norm):
    model = built(target_norm)
    found = reconstruction_errors(model, tiles, noise, target_band_means(model, [tiles]))
    for name, tile in tiles.items():
        patches = patchify(tile, PATCH).double()
        if target_norm == "patch":
            patches = (patches - patches.mean(-1, keepdim=True)) / (patches.var(-1, keepdim=True) + 1e-6).sqrt()
        visible = {"s1": 2, "s2": 5}[name]
        errors = []
        for row in range(5):
            order = np.argsort(noise[name][row].numpy())
            for removed in order[visible:]:
                nearest = min(
                    sorted(order[:visible]),
                    key=lambda seen: (seen // 3 - removed // 3) ** 2 + (seen % 3 - removed % 3) ** 2,
                )
                errors.append((patches[row, removed] - patches[row, nearest]).square().mean().item())
        assert mean_errors(found[name])["nearest"] == pytest.approx(np.mean(errors), rel=1e-5)


def test_brightness_and_contrast_cost_nothing_where_targets_are_normalised_by_the_patch(noise):
    texture = torch.randn(1, 2, PATCH, PATCH, generator=torch.Generator().manual_seed(3)).repeat(5, 1, 3, 3)
    shade = torch.rand(5, 1, 3, 3).repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)
    tiles = {"s1": texture * (1 + shade) + 5 * shade}
    errors = {}
    for target_norm in ("patch", "band"):
        model = built(target_norm)
        found = reconstruction_errors(model, tiles, noise, target_band_means(model, [tiles]))["s1"]
        errors[target_norm] = mean_errors(found)
    assert errors["patch"]["nearest"] == pytest.approx(0, abs=1e-6)
    assert errors["band"]["nearest"] > 0.1


def test_nothing_removed_is_no_error(tiles, noise):
    model = built(ratio=0.0)
    found = reconstruction_errors(model, tiles, noise, target_band_means(model, [tiles]))["s1"]
    assert found.tolist() == [0.0, 0.0, 0.0, 0]
    assert mean_errors(found) == {"model": 0.0, "band mean": 0.0, "nearest": 0.0}
