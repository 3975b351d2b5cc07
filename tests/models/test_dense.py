"""The dense head: from blocks and pixels to a map of 10 m, whatever modality is there."""

import pytest
import torch
from torch import Tensor

from fusmae.config.task import Task
from fusmae.models.dense import DenseHead, blocks_for
from fusmae.models.encoder import Encoder
from fusmae.models.predictors import PixelPredictor
from tests.models.conftest import TILE_PX, make_architecture

TASK = Task(kind="segmentation", classes=("a", "b", "c"))


def make_predictor(map_px: int = TILE_PX, **changes) -> PixelPredictor:
    architecture = make_architecture(**changes)
    return PixelPredictor(TASK, Encoder(architecture), DenseHead(architecture, map_px, 3)).eval()


@pytest.mark.parametrize(
    ("depth", "blocks"),
    [(1, (0,)), (2, (0, 1)), (3, (0, 1, 2)), (4, (0, 1, 2, 3)), (6, (1, 2, 4, 5)), (12, (2, 5, 8, 11))],
)
def test_up_to_four_blocks_are_read_evenly_spread_the_last_among_them(depth, blocks):
    assert blocks_for(depth) == blocks


@pytest.mark.parametrize("map_px", [TILE_PX, 2 * TILE_PX, 6 * TILE_PX])
def test_a_map_has_pixels_of_10_m_also_where_the_finest_bands_are_coarser(map_px, tiles):
    found = make_predictor(map_px)(tiles)
    assert found.shape == (3, 3, map_px, map_px)
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("early_fusion", [True, False])
@pytest.mark.parametrize("filler", [9.0, torch.nan])
def test_a_missing_modality_never_matters_not_even_nan_also_in_a_mixed_batch(early_fusion, filler, tiles):
    model = make_predictor(early_fusion=early_fusion, depth=4)
    presence = torch.tensor([[True, True], [True, False], [False, True]])
    mixed = {name: tile.clone() for name, tile in tiles.items()}
    mixed["s2"][1], mixed["s1"][2] = filler, filler
    found = model(mixed, presence)
    for row, names in enumerate((("s1", "s2"), ("s1",), ("s2",))):
        alone = model({name: tiles[name][row : row + 1] for name in names})
        torch.testing.assert_close(found[row : row + 1], alone, atol=1e-5, rtol=0)


def test_pixels_of_a_missing_modality_do_not_enter_the_gradient_either(tiles):
    model = make_predictor().train()
    nothing = tiles | {"s1": tiles["s1"] * torch.nan}
    raw, embedding = model.raw(nothing, torch.tensor([[False, True]] * 3))
    (raw.square().sum() + embedding.square().sum()).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters() if parameter.grad is not None)


def test_both_modalities_matter(tiles):
    model = make_predictor()
    whole = model(tiles)
    for name in tiles:
        other = model(tiles | {name: tiles[name].flip(0)})
        assert not torch.allclose(whole, other, atol=1e-4)


def test_every_block_that_is_read_matters(tiles):
    model = make_predictor(depth=4)
    latents, outputs = model.encoder.forward_blocks(tiles, model.head.blocks)
    whole = model.head(outputs, tiles, {})
    torch.testing.assert_close(whole, model(tiles))
    assert all(torch.equal(outputs[-1][name], latents.tokens[name]) for name in tiles)
    for at in range(len(outputs)):
        changed = [{name: own.flip(1) for name, own in of.items()} if at == row else of
                   for row, of in enumerate(outputs)]  # fmt: skip
        assert not torch.allclose(model.head(changed, tiles, {}), whole, atol=1e-5)


def test_tokens_reach_the_head_from_the_blocks_that_timm_names(tiles):
    model = make_predictor(depth=4)
    _, outputs = model.encoder.forward_blocks(tiles, (0, 2, 3))
    expected = model.encoder.forward_intermediates(tiles, [0, 2], output_fmt="NLC", intermediates_only=True)
    for of, whole in zip(outputs, expected, strict=False):
        torch.testing.assert_close(torch.cat(list(of.values()), dim=1), whole)


def blind_to_tokens(model: PixelPredictor) -> PixelPredictor:
    """What the head sees is its shallow path from the pixels alone."""
    for layer in model.head.project.values():
        torch.nn.init.zeros_(layer.weight)
    return model


def changes_of(model: PixelPredictor, tiles: dict[str, Tensor], row: int, column: int) -> Tensor:
    """Which pixels `[h, w]` of the map change with one pixel of the tiles."""
    other = {name: tile.clone() for name, tile in tiles.items()}
    for tile in other.values():
        tile[:, :, row, column] += 3.0
    return (model(other) - model(tiles)).abs().amax((0, 1)) > 1e-6


def test_one_pixel_of_a_tile_changes_the_map_there_and_three_pixels_around(tiles):
    model = blind_to_tokens(make_predictor())
    with torch.no_grad():  # as large as those of a trained one
        for layer in (*model.head.pixels.modules(), *model.head.fuse.modules(), model.head.output):
            if isinstance(layer, torch.nn.Conv2d):
                torch.nn.init.normal_(layer.weight, std=0.3)
    changed = changes_of(model, tiles, 9, 4)
    rows, columns = (changed.any(dim=axis).nonzero().flatten().tolist() for axis in (1, 0))
    assert changed[9, 4]
    assert (rows, columns) == (list(range(6, 13)), list(range(1, 8)))


def test_an_edge_in_the_tiles_is_an_edge_of_the_map_at_the_same_pixel(tiles):
    model = blind_to_tokens(make_predictor())
    with torch.no_grad():
        for layer in (*model.head.pixels.modules(), *model.head.fuse.modules(), model.head.output):
            if isinstance(layer, torch.nn.Conv2d):
                torch.nn.init.zeros_(layer.weight)
                layer.weight[:, :, layer.kernel_size[0] // 2, layer.kernel_size[1] // 2].normal_(std=0.3)
    for edge in (5, 6, 11):
        halves = {name: torch.zeros_like(tile) for name, tile in tiles.items()}
        for tile in halves.values():
            tile[:, :, :, edge:] = 1.0
        jumps = model(halves).diff(dim=3).abs().amax((0, 1, 2))
        assert jumps.nonzero().flatten().tolist() == [edge - 1]  # between this column and the next


def test_tokens_lie_where_their_patches_were(tiles):
    """A token changes the map around its own patch, no further than its neighbours' centres and the convolution."""
    model = make_predictor()
    _, outputs = model.encoder.forward_blocks(tiles, model.head.blocks)
    before = model.head(outputs, tiles, {})
    at = 1 * 4 + 2  # row 1, column 2 of 4 x 4 patches of 4 px
    moved = [{name: own.clone() for name, own in of.items()} for of in outputs]
    moved[-1]["s1"][:, at] = -moved[-1]["s1"][:, at]
    changed = (model.head(moved, tiles, {}) - before).abs().amax((0, 1))
    rows, columns = changed.amax(1), changed.amax(0)
    assert 4 <= rows.argmax() < 8
    assert 8 <= columns.argmax() < 12
    far = changed.clone()
    far[1:11, 5:15] = 0
    assert far.max() == 0


def test_an_embedding_of_a_dense_model_is_the_mean_of_its_tokens(tiles):
    model = make_predictor()
    latents = model.encoder(tiles)
    expected = torch.cat(list(latents.tokens.values()), dim=1).mean(1)
    torch.testing.assert_close(model.embed(tiles), expected)
    alone = model.encoder({"s2": tiles["s2"]}).tokens["s2"].mean(1)
    torch.testing.assert_close(model.embed({"s2": tiles["s2"]}), alone)


def test_a_stack_is_one_modality():
    model = make_predictor(groups={"s1+s2": (2, 2, 3)}, early_fusion=False, feature_fusion=False,
                           mask_ratio={"s1+s2": 0.75})  # fmt: skip
    assert model({"s1+s2": torch.randn(2, 7, TILE_PX, TILE_PX)}).shape == (2, 3, TILE_PX, TILE_PX)


def test_order_of_the_tiles_does_not_matter(tiles):
    model = make_predictor()
    turned = dict(reversed(tiles.items()))
    presence = torch.tensor([[True, True], [True, False], [False, True]])
    assert torch.equal(model(turned, presence), model(tiles, presence))
    assert torch.equal(model(turned), model(tiles))
