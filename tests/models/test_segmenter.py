from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fusmae.models.encoder import Encoder, Latents
from fusmae.models.heads import SegmenterHead, place_means
from fusmae.models.tokens import patchify

NAMES = ("s1", "s2")
DIM, NUM_CLASSES, SIDE_PX = 16, 3, 16


def make_latents(presence: Tensor | None = None, num_places: int = 16) -> Latents:
    tokens = {name: torch.randn(2, num_places, DIM) for name in NAMES}
    return Latents(cls=torch.randn(2, DIM), tokens=tokens, presence=presence)


@pytest.fixture
def head() -> SegmenterHead:
    return SegmenterHead(DIM, NUM_CLASSES, SIDE_PX, NAMES)


def test_a_place_is_the_mean_of_its_tokens() -> None:
    latents = make_latents()
    expected = (latents.tokens["s1"] + latents.tokens["s2"]) / 2
    torch.testing.assert_close(place_means(latents, NAMES), expected)


@pytest.mark.parametrize("filler", [9.0, torch.nan])
def test_tokens_of_a_modality_that_a_row_lacks_never_enter(filler: float, head: SegmenterHead) -> None:
    latents = make_latents(torch.tensor([[True, True], [False, True]]))
    before = head.eval()(latents)
    latents.tokens["s1"][1] = filler
    found = place_means(latents, NAMES)
    torch.testing.assert_close(found[0], (latents.tokens["s1"] + latents.tokens["s2"])[0] / 2)
    torch.testing.assert_close(found[1], latents.tokens["s2"][1])
    assert torch.equal(head(latents), before)


def test_both_ways_to_miss_a_modality_give_the_same_map(
    make_encoder: Callable[..., Encoder], tiles: dict[str, Tensor], head: SegmenterHead
) -> None:
    encoder = make_encoder().eval()
    head.eval()
    by_tiles = head(encoder({"s2": tiles["s2"]}))
    nothing = tiles | {"s1": tiles["s1"] * torch.nan}
    by_presence = head(encoder(nothing, presence=torch.tensor([[False, True]] * 3)))
    assert by_tiles.shape == (3, NUM_CLASSES, SIDE_PX, SIDE_PX)
    torch.testing.assert_close(by_tiles, by_presence, atol=1e-5, rtol=0)
    assert not torch.allclose(by_tiles, head(encoder(tiles)))


def test_logits_lie_where_patchify_cut_their_patches() -> None:
    """One token a pixel, so that nothing is interpolated: each comes back to its own row and column."""
    tile = torch.randn(2, DIM, 4, 4)
    head = SegmenterHead(DIM, DIM, 4, ("s1",)).eval()
    with torch.no_grad():
        head.linear.weight.copy_(torch.eye(DIM))
        found = head(Latents(cls=tile[:, :, 0, 0], tokens={"s1": patchify(tile, 1)}, presence=None))
    torch.testing.assert_close(found, tile)


def test_upsampling_is_bilinear_between_the_centres_of_patches(head: SegmenterHead) -> None:
    latents = make_latents(num_places=4)
    found = head.eval()(latents)
    logits = head.linear(head.norm(place_means(latents, NAMES).transpose(1, 2)).transpose(1, 2))
    corners = logits.transpose(1, 2).reshape(2, NUM_CLASSES, 2, 2)
    # Outside the four centres the nearest patch's value; in the middle, between pixels 7 and 8, their mean.
    torch.testing.assert_close(found[:, :, 0, 0], corners[:, :, 0, 0])
    torch.testing.assert_close(found[:, :, 0, -1], corners[:, :, 0, 1])
    torch.testing.assert_close(found[:, :, 7:9, 7:9].mean((2, 3)), corners.mean((2, 3)))


def test_tokens_are_standardised_without_parameters(head: SegmenterHead) -> None:
    assert {name for name, _ in head.named_parameters()} == {"linear.weight", "linear.bias"}
    standard = head.norm(torch.randn(8, DIM, 16) * 5 + 3)
    torch.testing.assert_close(standard.mean((0, 2)), torch.zeros(DIM), atol=1e-5, rtol=0)
    torch.testing.assert_close(standard.std((0, 2)), torch.ones(DIM), atol=1e-2, rtol=0)


def test_one_modality_of_a_stacked_model_is_enough() -> None:
    head = SegmenterHead(DIM, NUM_CLASSES, SIDE_PX, ("s1+s2",))
    tokens = torch.randn(2, 16, DIM)
    assert torch.equal(place_means(Latents(tokens[:, 0], {"s1+s2": tokens}, None), head.modalities), tokens)
