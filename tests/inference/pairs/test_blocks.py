"""Tiles of two splits are never near one another, whatever scenes, dates and UTM zones they come from."""

from collections import Counter

import numpy as np
import pytest
import shapely
from rasterio.crs import CRS
from rasterio.warp import transform

from fusmae.data.index import SPLITS
from fusmae.errors import InputError
from fusmae.inference.pairs.blocks import NEAR_ANOTHER, Blocks, PlacedTiles, side_for, split_tiles
from fusmae.inference.scene.grid import Grid

SHARES = (0.7, 0.15, 0.15)


def grid_at(left=400_000.0, top=5_340_000.0, rows=40, columns=40, tile_m=1200, crs="EPSG:32633"):
    return Grid(CRS.from_string(crs), left, top, tile_m, tile_m, 60, columns * tile_m, rows * tile_m)


def placed(grid, found):
    rows, columns = np.nonzero(found.splits != NEAR_ANOTHER)
    lefts, tops = grid.left + columns * grid.tile_m, grid.top - rows * grid.tile_m
    return PlacedTiles(grid.crs, lefts, tops, found.splits[rows, columns], grid.tile_m)


def least_distance(tiles, others=None, crs="EPSG:32633"):
    """Least distance in metres of two tiles of different splits."""
    others = others or tiles
    own, their = tiles.outlines(CRS.from_string(crs)), others.outlines(CRS.from_string(crs))
    least = np.inf
    for split in range(len(SPLITS)):
        tree = shapely.STRtree(their[others.splits != split])
        mine = own[tiles.splits == split]
        if len(mine) and len(tree.geometries):
            least = min(least, tree.query_nearest(mine, return_distance=True)[1].min())
    return least


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("gap_m", [0, 600, 1200, 3000])
def test_tiles_of_two_splits_are_at_least_the_gap_apart(seed, gap_m):
    grid = grid_at()
    found = split_tiles(grid, Blocks(8400, gap_m, seed, SHARES))
    assert least_distance(placed(grid, found)) >= gap_m
    assert {*range(len(SPLITS))} <= set(found.splits.ravel().tolist())


@pytest.mark.parametrize("seed", range(6))
def test_few_blocks_are_split_nearly_by_the_shares(seed):
    grid = grid_at()
    found = split_tiles(grid, Blocks(8400, 0, seed, SHARES))
    counts = Counter(found.splits.ravel().tolist())
    for number, share in enumerate(SHARES):
        assert counts[number] / found.splits.size == pytest.approx(share, abs=0.08)


def test_test_tiles_are_kept_and_training_tiles_give_way():
    grid = grid_at()
    without, within = (split_tiles(grid, Blocks(8400, gap_m, 0, SHARES)).splits for gap_m in (0, 1200))
    test = SPLITS.index("test")
    assert ((within == test) == (without == test)).all()
    assert (within == SPLITS.index("train")).sum() < (without == SPLITS.index("train")).sum()


def test_a_scene_of_another_date_and_grid_agrees_with_the_first():
    blocks, first = Blocks(8400, 1200, 0, SHARES), grid_at()
    tiles = placed(first, split_tiles(first, blocks))
    second = grid_at(left=first.left + 17_430, top=first.top - 11_310)
    alone = placed(second, split_tiles(second, blocks))
    after = placed(second, split_tiles(second, blocks, [tiles]))
    assert least_distance(alone, tiles) < 1200 <= least_distance(after, tiles)


def test_the_same_ground_on_another_date_has_the_same_splits():
    blocks, grid = Blocks(8400, 1200, 0, SHARES), grid_at()
    first = split_tiles(grid, blocks)
    again = split_tiles(grid, blocks, [placed(grid, first)])
    assert (again.splits == first.splits).all()
    assert again.places == first.places


def test_scenes_of_neighbouring_utm_zones_agree():
    (x,), (y,) = transform("EPSG:32633", "EPSG:32632", [250_000.0], [5_340_000.0])
    blocks = Blocks(8400, 1200, 0, SHARES)
    west, east = grid_at(left=x, top=y, crs="EPSG:32632"), grid_at(left=250_000.0)
    tiles = placed(west, split_tiles(west, blocks))
    after = placed(east, split_tiles(east, blocks, [tiles]))
    assert len(after.splits) > 500
    assert least_distance(after, tiles) >= 1200 - 1
    # Blocks are the same cells of the earth, so that most tiles agree without being left out.
    alone = placed(east, split_tiles(east, blocks))
    assert len(after.splits) > 0.7 * len(alone.splits)


def test_a_scene_on_the_other_side_of_the_world_is_not_near():
    blocks, here, there = Blocks(8400, 1200, 0, SHARES), grid_at(), grid_at(crs="EPSG:32760", top=4_000_000.0)
    assert (
        split_tiles(here, blocks, [placed(there, split_tiles(there, blocks))]).splits
        == split_tiles(here, blocks).splits
    ).all()


def test_blocks_go_on_beyond_the_180th_meridian():
    grid = grid_at(left=800_000.0, top=2_000_000.0, crs="EPSG:32660")
    found = split_tiles(grid, Blocks(8400, 1200, 0, SHARES))
    assert least_distance(placed(grid, found), crs="EPSG:32660") >= 1200


def test_a_place_has_one_split():
    found = split_tiles(grid_at(), Blocks(8400, 1200, 0, SHARES))
    splits = {}
    for places, numbers in zip(found.places, found.splits.tolist(), strict=True):
        for place, number in zip(places, numbers, strict=True):
            if number != NEAR_ANOTHER:
                assert splits.setdefault(place, number) == number
    assert all(place.startswith("8.4km_") for place in splits)


@pytest.mark.parametrize(("tiles", "side_m"), [(8, 3600), (22, 6000), (90, 12000)])
def test_blocks_are_large_where_the_scene_is(tiles, side_m):
    assert side_for(grid_at(rows=tiles, columns=tiles + 5)) == side_m


def test_a_local_grid_is_refused():
    local = 'LOCAL_CS["site",UNIT["metre",1]]'
    with pytest.raises(InputError, match="no place on earth"):
        split_tiles(grid_at(crs=local), Blocks(8400, 1200, 0, SHARES))
