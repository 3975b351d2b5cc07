import pytest
import torch

from fusmae.config.training import Masking
from fusmae.models.masking import Mask, draw_masks

RATIO = {"s1": 0.75, "s2": 0.75}


def _noise(num_patches: int = 225, batch: int = 4) -> dict[str, torch.Tensor]:
    return {name: torch.rand(batch, num_patches) for name in RATIO}


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.5, 0.75, 0.9])
def test_share_of_removed_patches_is_exact_in_every_row(ratio: float) -> None:
    masks = draw_masks(_noise(), {"s1": ratio, "s2": ratio}, "independent")
    for mask in masks.values():
        assert (mask.mask.sum(1) == round(225 * ratio)).all()
        assert mask.ids_keep.shape == (4, 225 - round(225 * ratio))


def test_at_least_one_patch_stays_visible() -> None:
    assert draw_masks({"s1": torch.rand(2, 4)}, {"s1": 0.99}, "independent")["s1"].ids_keep.shape == (2, 1)


def test_the_drawn_order_has_every_patch_once_and_the_visible_ones_first() -> None:
    mask = draw_masks(_noise(), RATIO, "independent")["s1"]
    assert torch.equal(mask.ids.sort(dim=1).values, torch.arange(225).expand(4, -1))
    assert torch.equal(mask.ids[:, : mask.num_visible], mask.ids_keep)


def test_mask_is_one_where_removed_and_zero_on_ids_keep() -> None:
    mask = draw_masks(_noise(), RATIO, "independent")["s1"]
    expected = torch.ones(4, 225).scatter(1, mask.ids_keep, 0.0)
    assert torch.equal(mask.mask, expected)


def test_consistent_masks_are_the_same() -> None:
    masks = draw_masks(_noise(), RATIO, "consistent")
    for field in ("ids", "ids_keep", "mask"):
        assert torch.equal(getattr(masks["s1"], field), getattr(masks["s2"], field))


def test_independent_masks_differ() -> None:
    masks = draw_masks(_noise(), RATIO, "independent")
    assert not torch.equal(masks["s1"].mask, masks["s2"].mask)


def test_consistent_masks_of_different_ratios_are_nested() -> None:
    masks = draw_masks(_noise(), {"s1": 0.5, "s2": 0.75}, "consistent")
    assert ((masks["s1"].mask == 1) <= (masks["s2"].mask == 1)).all()
    assert masks["s1"].ids_keep.shape[1] > masks["s2"].ids_keep.shape[1]


def test_consistent_masks_over_different_grids_are_refused() -> None:
    with pytest.raises(ValueError, match="same patches"):
        draw_masks({"s1": torch.rand(1, 4), "s2": torch.rand(1, 9)}, RATIO, "consistent")


def test_ties_in_the_noise_keep_the_first_patches() -> None:
    mask = draw_masks({"s1": torch.zeros(1, 64)}, RATIO, "independent")["s1"]
    assert mask.ids_keep.tolist() == [list(range(16))]


def test_lowest_noise_stays_visible_and_same_noise_gives_the_same_mask() -> None:
    noise = _noise()
    mask = draw_masks(noise, RATIO, "independent")["s1"]
    assert torch.equal(mask.ids_keep, noise["s1"].topk(56, largest=False, sorted=True).indices)
    again = draw_masks(noise, RATIO, "independent")["s1"]
    assert torch.equal(mask.mask, again.mask)


def test_mask_is_frozen() -> None:
    mask = Mask(torch.zeros(1, 1), 1)
    with pytest.raises(AttributeError):
        mask.ids = torch.ones(1, 1)  # type: ignore[misc]


@pytest.mark.parametrize("strategy", ["independent", "consistent"])
def test_over_many_draws_each_patch_is_removed_equally_often(strategy: Masking) -> None:
    torch.manual_seed(0)
    masks = draw_masks(_noise(num_patches=16, batch=20_000), {"s1": 0.75, "s2": 0.5}, strategy)
    for name, expected in (("s1", 0.75), ("s2", 0.5)):
        # Five standard deviations of a share of 20 000 draws.
        torch.testing.assert_close(masks[name].mask.mean(0), torch.full((16,), expected), atol=0.018, rtol=0)


def test_over_many_draws_one_modalitys_mask_says_nothing_of_the_others_unless_consistent() -> None:
    torch.manual_seed(0)
    noise = _noise(num_patches=16, batch=20_000)
    both = {}
    for strategy in ("independent", "consistent"):
        masks = draw_masks(noise, RATIO, strategy)
        both[strategy] = (masks["s1"].mask * masks["s2"].mask).mean(0)
    torch.testing.assert_close(both["independent"], torch.full((16,), 0.75**2), atol=0.018, rtol=0)
    torch.testing.assert_close(both["consistent"], torch.full((16,), 0.75), atol=0.018, rtol=0)
