import numpy as np
import pytest
import torch

from fusmae.models.tokens import PatchEmbed, patch_sides, patchify, select, sincos_positions, unpatchify


def test_unpatchify_undoes_patchify() -> None:
    tile = torch.randn(2, 3, 12, 12)
    assert torch.equal(unpatchify(patchify(tile, 4), 4), tile)


def test_patches_run_row_by_row_and_their_values_by_band_row_column() -> None:
    tile = torch.randn(2, 3, 8, 8)
    patches = patchify(tile, 4)
    assert patches.shape == (2, 4, 3 * 16)
    assert torch.equal(patches[1, 1], tile[1, :, :4, 4:].flatten())
    assert torch.equal(patches[1, 2], tile[1, :, 4:, :4].flatten())


def test_patch_side_that_does_not_divide_is_refused_with_those_that_do() -> None:
    with pytest.raises(ValueError, match=r"8, 10, 12, 15, 20, 24$"):
        PatchEmbed(2, tile_px=120, patch_px=16, dim=16)


def test_patch_sides_of_a_tile_without_usual_ones_are_its_divisors() -> None:
    assert patch_sides(120) == (8, 10, 12, 15, 20, 24)
    assert patch_sides(6) == (2, 3, 6)


def _reference_sincos(side: int, dim: int) -> np.ndarray:
    """Looped on purpose: another way to the same numbers."""
    table = np.zeros((side * side, dim))
    quarter = dim // 4
    for row in range(side):
        for column in range(side):
            for k in range(quarter):
                omega = 1.0 / 10_000 ** (k / quarter)
                for half, coordinate in enumerate((column, row)):
                    table[row * side + column, half * 2 * quarter + k] = np.sin(coordinate * omega)
                    table[row * side + column, half * 2 * quarter + quarter + k] = np.cos(coordinate * omega)
    return table


def test_positions_equal_a_reference_computation() -> None:
    positions = sincos_positions(5, 16)
    assert positions.dtype == torch.float32
    np.testing.assert_allclose(positions.numpy(), _reference_sincos(5, 16), atol=1e-6)


def test_positions_need_a_width_that_is_a_multiple_of_four() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        sincos_positions(4, 18)


def test_positions_are_not_in_the_state_dict() -> None:
    assert set(PatchEmbed(2, 8, 4, 16).state_dict()) == {"proj.weight", "proj.bias"}


def test_embedding_visible_patches_equals_picking_from_all() -> None:
    embed = PatchEmbed(2, tile_px=8, patch_px=4, dim=16)
    tile, ids = torch.randn(2, 2, 8, 8), torch.tensor([[3, 0], [1, 2]])
    torch.testing.assert_close(embed(tile, ids), select(embed(tile), ids))


def test_embedding_is_a_strided_convolution_plus_positions() -> None:
    embed = PatchEmbed(2, tile_px=8, patch_px=4, dim=16)
    tile = torch.randn(2, 2, 8, 8)
    kernel = embed.proj.weight.reshape(16, 2, 4, 4)
    expected = torch.nn.functional.conv2d(tile, kernel, embed.proj.bias, stride=4).flatten(2).mT + embed.positions
    torch.testing.assert_close(embed(tile), expected)


def test_tile_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="expected"):
        PatchEmbed(2, tile_px=8, patch_px=4, dim=16)(torch.randn(1, 3, 8, 8))
