import pytest
import torch

from fusmae.evaluation.conditions import Clouds, clouded

SIDES = {"s1_10m": 120, "s2_10m": 120, "s2_20m": 60, "s2_60m": 20}
DARK, CLOUD = 1000, 6000


@pytest.fixture
def pixels() -> dict[str, torch.Tensor]:
    """Four pairs: dark ground without texture, so that a cloud is all there is to see."""
    made = {name: torch.full((4, 2, side, side), DARK, dtype=torch.uint16) for name, side in SIDES.items()}
    made["s1_10m"] = torch.full((4, 2, 120, 120), -1400, dtype=torch.int16)
    return made


def opacity(array: torch.Tensor) -> torch.Tensor:
    return (array.float() - DARK) / (CLOUD - DARK)


@pytest.mark.parametrize("share", [0.2, 0.6, 0.9])
def test_clouds_cover_the_share_of_every_tile(pixels, share):
    found = clouded(pixels, torch.arange(4), Clouds(0, share))
    for name in ("s2_10m", "s2_20m", "s2_60m"):
        covered = opacity(found[name]).mean(dim=(2, 3))
        torch.testing.assert_close(covered, torch.full_like(covered, share), atol=0.04, rtol=0)


def test_clouds_are_opaque_within_clear_without_and_soft_between(pixels):
    array = clouded(pixels, torch.arange(4), Clouds(0, 0.6))["s2_10m"].long()
    assert array.min() == DARK
    assert array.max() == CLOUD
    assert ((array == CLOUD).float().mean() > 0.45).item()
    assert ((array == DARK).float().mean() > 0.25).item()
    steps = array.diff(dim=-1).abs()
    assert 0 < steps.max() < 0.6 * (CLOUD - DARK)


def test_the_cloud_is_the_same_in_every_band_and_at_every_resolution(pixels):
    found = clouded(pixels, torch.arange(4), Clouds(0, 0.6))
    fine = opacity(found["s2_10m"])
    assert torch.equal(fine[:, 0], fine[:, 1])
    for name, factor in (("s2_20m", 2), ("s2_60m", 6)):
        coarse = torch.nn.functional.avg_pool2d(fine, factor)
        torch.testing.assert_close(opacity(found[name]), coarse, atol=1e-3, rtol=0)


def test_a_cloud_is_the_same_whatever_the_batch(pixels):
    whole = clouded(pixels, torch.tensor([5, 9, 2, 7]), Clouds(0, 0.6))
    for position, index in enumerate((5, 9, 2, 7)):
        alone = clouded({name: array[:1] for name, array in pixels.items()}, torch.tensor([index]), Clouds(0, 0.6))
        for name in SIDES:
            assert torch.equal(alone[name][0].long(), whole[name][position].long())


def test_pairs_and_seeds_have_clouds_of_their_own(pixels):
    found = clouded(pixels, torch.arange(4), Clouds(0, 0.6))["s2_10m"].long()
    other = clouded(pixels, torch.arange(4), Clouds(1, 0.6))["s2_10m"].long()
    assert len({row.numpy().tobytes() for row in torch.cat([found, other])}) == 8


def test_radar_and_the_arrays_that_were_given_stay_as_they_are(pixels):
    before = {name: array.clone() for name, array in pixels.items()}
    found = clouded(pixels, torch.arange(4), Clouds(0, 0.6))
    assert found["s1_10m"] is pixels["s1_10m"]
    assert all(torch.equal(array.long(), before[name].long()) for name, array in pixels.items())
    assert {name: (array.shape, array.dtype) for name, array in found.items()} == {
        name: (array.shape, array.dtype) for name, array in pixels.items()
    }


def test_radar_alone_has_no_clouds(pixels):
    radar = {"s1_10m": pixels["s1_10m"]}
    assert clouded(radar, torch.arange(4), Clouds(0, 0.6)) == radar


def test_clear_ground_is_left_to_the_last_bit():
    ground = torch.rand(2, 1, 40, 40) * 3000
    found = clouded({"s2_10m": ground}, torch.arange(2), Clouds(0, 0.6))["s2_10m"]
    assert (found == ground).float().mean() > 0.25
    assert (found == CLOUD).float().mean() > 0.4
