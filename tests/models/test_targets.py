import numpy as np
import pytest
import torch

from fusmae.models.targets import normalised_runs, patch_moments


def test_patch_norm_is_over_all_values_of_a_patch() -> None:
    patches = torch.randn(2, 3, 20) * 4 + 7
    mean, std = patch_moments(patches, normalised_runs("patch", (2, 3), patch_px=2))
    expected = patches.numpy()
    assert mean.shape == std.shape == (2, 3, 1)
    np.testing.assert_allclose(mean[..., 0].numpy(), expected.mean(-1), rtol=1e-5)
    np.testing.assert_allclose(std[..., 0].numpy(), np.sqrt(expected.var(-1, ddof=1) + 1e-6), rtol=1e-5)


def test_group_norm_is_over_each_band_groups_values() -> None:
    patches = torch.randn(2, 3, 20)
    mean, std = patch_moments(patches, normalised_runs("group", (2, 3), patch_px=2))
    for run in (slice(0, 8), slice(8, 20)):
        part = patches[..., run].numpy()
        np.testing.assert_allclose(
            mean[..., run].numpy(), np.broadcast_to(part.mean(-1, keepdims=True), part.shape), atol=1e-5
        )
        deviation = np.sqrt(part.var(-1, ddof=1, keepdims=True) + 1e-6)
        np.testing.assert_allclose(std[..., run].numpy(), np.broadcast_to(deviation, part.shape), rtol=1e-5)


def test_band_norm_leaves_values_as_they_are() -> None:
    mean, std = patch_moments(torch.randn(2, 3, 20), normalised_runs("band", (2, 3), patch_px=2))
    assert (mean.item(), std.item()) == (0.0, 1.0)


@pytest.mark.parametrize("norm", ["patch", "group"])
def test_flat_patch_gives_finite_targets(norm) -> None:
    patches = torch.ones(1, 1, 20)
    mean, std = patch_moments(patches, normalised_runs(norm, (2, 3), patch_px=2))
    assert ((patches - mean) / std == 0).all()
