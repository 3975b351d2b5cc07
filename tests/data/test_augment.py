import numpy as np
import pytest
import torch

from fusmae.data.augment import apply_geometry, apply_to_maps, draw_geometry
from fusmae.data.randomness import Purpose, generator


def drawn(index: int, **switches) -> np.ndarray:
    settings = {"flip": True, "turn": True, "min_crop": 1.0}
    return draw_geometry([generator(0, Purpose.AUGMENT, 0, index)], **(settings | switches))[0]


def applied(tile: np.ndarray, geometry: np.ndarray) -> np.ndarray:
    found = apply_geometry({"s1": torch.from_numpy(tile)[None]}, torch.from_numpy(geometry)[None])
    return found["s1"][0].numpy()


@pytest.fixture
def tile() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, 24, 24)).astype(np.float32)


def test_everything_off_is_the_identity_matrix():
    for index in range(20):
        assert np.array_equal(drawn(index, flip=False, turn=False), np.eye(2, 3, dtype=np.float32))


def test_identity_leaves_every_pixel(tile):
    np.testing.assert_allclose(applied(tile, np.eye(2, 3, dtype=np.float32)), tile, atol=1e-5)


def test_flips_and_turns_are_exactly_those_of_numpy(tile):
    """Each draw is one of the eight symmetries of a square, and each of the eight is drawn."""
    wanted = {
        (flipped, turns): np.rot90(tile[..., ::-1] if flipped else tile, turns, (1, 2))
        for flipped in (False, True)
        for turns in range(4)
    }
    seen = set()
    for index in range(100):
        found = applied(tile, drawn(index))
        matching = [name for name, image in wanted.items() if np.abs(found - image).max() < 1e-5]
        assert len(matching) == 1
        seen.update(matching)
    assert seen == set(wanted)


def test_flip_alone_mirrors_left_to_right_in_half_of_the_draws(tile):
    flips = 0
    for index in range(200):
        found = applied(tile, drawn(index, turn=False))
        is_flipped = np.abs(found - tile[..., ::-1]).max() < 1e-5
        assert is_flipped or np.abs(found - tile).max() < 1e-5
        flips += is_flipped
    assert 75 <= flips <= 125


def test_turn_alone_never_mirrors(tile):
    for index in range(40):
        linear = drawn(index, flip=False)[:, :2]
        assert np.linalg.det(linear) == pytest.approx(1.0)


def test_crop_lies_within_the_tile_and_is_never_smaller_than_asked():
    sides = []
    for index in range(500):
        geometry = drawn(index, min_crop=0.8)
        sides.append(np.sqrt(abs(np.linalg.det(geometry[:, :2]))))
        corners = geometry @ np.array([[-1, -1, 1], [1, -1, 1], [-1, 1, 1], [1, 1, 1]]).T
        assert np.abs(corners).max() <= 1 + 1e-6
    assert min(sides) >= 0.8 - 1e-6
    assert max(sides) <= 1 + 1e-6
    assert min(sides) < 0.82
    assert max(sides) > 0.98


def test_a_crop_shows_the_part_that_its_matrix_names():
    """On an image of coordinates, each pixel tells where it was taken from."""
    centres = (np.arange(24, dtype=np.float32) * 2 + 1) / 24 - 1
    tile = np.stack(np.broadcast_arrays(centres[None, :], centres[:, None]))
    geometry = drawn(3, flip=False, turn=False, min_crop=0.5)
    found = applied(tile, geometry)
    scale, x, y = geometry[0, 0], geometry[0, 2], geometry[1, 2]
    assert scale < 1
    np.testing.assert_allclose(found[0], np.broadcast_to(centres * scale + x, (24, 24)), atol=1e-5)
    np.testing.assert_allclose(found[1], np.broadcast_to((centres * scale + y)[:, None], (24, 24)), atol=1e-5)


def test_every_modality_moves_alike():
    tile = torch.randn(4, 1, 24, 24)
    geometry = torch.from_numpy(np.stack([drawn(index, min_crop=0.6) for index in range(4)]))
    found = apply_geometry({"s1": tile, "s2": tile.expand(-1, 5, -1, -1)}, geometry)
    assert torch.equal(found["s2"], found["s1"].expand(-1, 5, -1, -1))
    assert not torch.equal(found["s1"], tile)


def test_each_pair_has_its_own_geometry():
    tile = torch.randn(1, 1, 24, 24).expand(2, -1, -1, -1)
    geometry = np.stack([drawn(index, min_crop=0.6) for index in range(2)])
    found = apply_geometry({"s1": tile}, torch.from_numpy(geometry))["s1"]
    for row in range(2):
        np.testing.assert_array_equal(found[row].numpy(), applied(tile[row].numpy(), geometry[row]))
    assert not torch.equal(found[0], found[1])


def test_a_switch_changes_its_own_effect_only():
    for index in range(50):
        both, without_flip = drawn(index, min_crop=0.8), drawn(index, min_crop=0.8, flip=False)
        assert np.array_equal(both[:, 2], without_flip[:, 2])
        assert np.allclose(np.abs(both), np.abs(without_flip))
        assert np.array_equal(drawn(index), np.round(drawn(index)))


def test_bf16_autocast_does_not_blur_the_identity():
    tiles = {"s1": torch.rand(2, 2, 24, 24)}
    identity = torch.eye(2, 3).repeat(2, 1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        moved = apply_geometry(tiles, identity)
    torch.testing.assert_close(moved["s1"], tiles["s1"], atol=1e-5, rtol=0)


def test_a_pairs_geometry_is_the_same_alone_and_among_others():
    randoms = [generator(0, Purpose.AUGMENT, 0, index) for index in range(20)]
    together = draw_geometry(randoms, flip=True, turn=True, min_crop=0.6)
    assert np.array_equal(together, [drawn(index, min_crop=0.6) for index in range(20)])


def test_a_map_moves_as_its_tile_does_by_every_flip_and_turn(tile):
    classes = np.random.default_rng(1).integers(0, 4, (24, 24)).astype(np.uint8)
    classes[:2] = 255
    both = np.stack([classes, classes]).astype(np.float32)
    seen = set()
    for index in range(60):
        geometry = drawn(index)
        moved = apply_to_maps(torch.from_numpy(classes)[None], torch.from_numpy(geometry)[None])[0]
        assert moved.dtype == torch.uint8
        np.testing.assert_array_equal(moved, np.rint(applied(both, geometry))[0])
        seen.add(moved.numpy().tobytes())
    assert len(seen) == 8


def test_pixels_of_a_map_are_never_mixed_by_a_crop():
    classes = np.random.default_rng(1).choice([0, 3, 255], (24, 24)).astype(np.int64)
    values = np.where(classes == 255, np.nan, classes).astype(np.float32)
    for index in range(20):
        geometry = torch.from_numpy(drawn(index, min_crop=0.6))[None]
        moved = apply_to_maps(torch.from_numpy(classes)[None], geometry)
        assert moved.dtype == torch.int64
        assert set(moved.unique().tolist()) <= {0, 3, 255}
        same = apply_to_maps(torch.from_numpy(values)[None], geometry)
        np.testing.assert_array_equal(same.isnan(), moved == 255)
