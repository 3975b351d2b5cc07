"""Tiles, cells and units cover the ground that scenes share, each cell once."""

from types import SimpleNamespace

import numpy as np
import pytest
from rasterio.crs import CRS
from rasterio.transform import from_origin
from rasterio.warp import transform_bounds

from fusmae.errors import InputError
from fusmae.inference.scene import grid as grid_module
from fusmae.inference.scene.grid import Grid, lay_grid
from fusmae.inference.scene.scene import Reading, Scene

INPUTS = [SimpleNamespace(gsd_m=gsd_m, side_px=1200 // gsd_m) for gsd_m in (10, 20, 60)]


def scene(left, top, width_m, height_m, crs="EPSG:32633", modality="s2", gsd=10):
    box = (CRS.from_string(crs), (left, top - height_m, left + width_m, top))
    place = from_origin(left, top, gsd, gsd)
    return Scene(modality, {}, (), frozenset(), (), Reading(), transform=place, boxes=(box,))


def lay(*scenes, stride_m=None):
    return lay_grid({item.modality: item for item in scenes}, INPUTS, stride_m)


def test_half_a_tile_is_the_stride_and_a_fifth_of_it_the_cell():
    grid = lay(scene(400_000, 5_300_000, 12_000, 6_000))
    assert (grid.tile_m, grid.stride_m, grid.cell_m) == (1200, 600, 120)
    assert grid.shape == (50, 100)


@pytest.mark.parametrize(("width_m", "reach_m"), [(12_360, 12_360), (12_361, 12_480), (12_430, 12_480)])
def test_the_last_tile_holds_the_scenes_last_pixel(width_m, reach_m):
    grid = lay(scene(400_000, 5_300_000, width_m, 6_000))
    assert grid.width_m == reach_m
    assert grid.tile_lefts_m[-2:] == (10_800, reach_m - 1_200)
    assert grid.ground_m == (0, 0, 6_000, width_m)


@pytest.mark.parametrize("stride_m", [None, 60, 300, 1200])
def test_a_cell_of_ten_metres_is_one_whatever_the_stride_and_the_grid_is_whole_in_all_pixels(stride_m):
    grid = lay_grid({"s2": scene(400_000, 5_300_000, 12_370, 6_010)}, INPUTS, stride_m, cell_m=10)
    assert (grid.cell_m, grid.block_m) == (10, 60)
    assert (grid.width_m, grid.height_m) == (12_420, 6_060)
    assert grid.shape == (606, 1_242)
    assert all(place % 60 == 0 for place in (*grid.tile_tops_m, *grid.tile_lefts_m))


def test_units_of_a_grid_of_fine_pixels_are_whole_blocks_for_the_picture():
    inputs = [SimpleNamespace(gsd_m=10, side_px=128)]
    grid = lay_grid({"s1": scene(400_000, 5_300_000, 12_370, 6_010, modality="s1")}, inputs, None, cell_m=10)
    assert (grid.stride_m, grid.block_m) == (640, 80)
    assert all(unit.height_m % 80 == unit.width_m % 80 == 0 for unit in grid.units())


def test_where_only_tiles_are_wanted_they_reach_less_far():
    grid = lay_grid({"s2": scene(400_000, 5_300_000, 12_010, 6_000)}, INPUTS, 1200, has_cells=False)
    assert grid.width_m == 12_060


def test_pixels_beyond_the_ground_are_known():
    grid = lay(scene(400_000, 5_300_000, 12_430, 6_000))
    rows, columns = grid.is_ground(10, (0, 11_280, 1_200, 1_200))
    assert rows.all()
    assert columns.sum() == 115
    assert columns[:115].all()


@pytest.mark.parametrize("stride_m", [0, -60, 100, 500, 1260])
def test_a_stride_that_does_not_fit_is_refused_with_those_that_do(stride_m):
    with pytest.raises(InputError, match="--stride of 60, 120, 240, 300, 600, 1200 m"):
        lay(scene(400_000, 5_300_000, 12_000, 6_000), stride_m=stride_m)


@pytest.mark.parametrize("stride_m", [60, 120, 240, 300, 600, 1200])
@pytest.mark.parametrize("strip_m", [1200, 5_000, 120_000])
def test_units_report_every_cell_once_and_predict_every_tile_once(stride_m, strip_m, monkeypatch):
    monkeypatch.setattr(grid_module, "_STRIP_M", strip_m)
    grid = lay(scene(400_000, 5_300_000, 7_380, 4_260), stride_m=stride_m)
    cells = np.zeros(grid.shape, int)
    tiles = []
    for unit in grid.units():
        assert unit.height_m <= grid.tile_m
        assert unit.width_m <= unit.lefts_m[-1] + grid.tile_m - unit.left_m <= max(strip_m, grid.tile_m)
        top, left = unit.top_m // grid.cell_m, unit.left_m // grid.cell_m
        cells[top : top + unit.height_m // grid.cell_m, left : left + unit.width_m // grid.cell_m] += 1
        tiles += [(unit.top_m, left_m) for left_m in unit.lefts_m]
    assert (cells == 1).all()
    assert sorted(tiles) == [(top, left) for top in grid.tile_tops_m for left in grid.tile_lefts_m]


def test_the_grid_is_in_step_with_the_pixels_of_s2_wherever_s1_begins():
    s1 = scene(400_037, 5_299_989, 9_000, 9_000, modality="s1")
    grid = lay(s1, scene(399_990, 5_300_010, 9_000, 9_000))
    assert (grid.left - 399_990) % 60 == 0
    assert (5_300_010 - grid.top) % 60 == 0
    assert 399_977 < grid.left <= 400_037
    assert 5_299_989 <= grid.top < 5_300_049


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:2263"])
def test_a_crs_without_metres_on_the_ground_gives_way_to_utm(crs):
    box = transform_bounds("EPSG:32618", crs, 580_000, 4_500_000, 590_000, 4_510_000)
    grid = lay(scene(box[0], box[3], box[2] - box[0], box[3] - box[1], crs=crs))
    assert grid.crs.to_epsg() == 32618
    assert grid.width_m == pytest.approx(10_000, rel=0.05)


def test_scenes_in_other_utm_zones_meet_where_they_overlap():
    box = transform_bounds("EPSG:32633", "EPSG:32634", 650_000, 5_290_000, 660_000, 5_300_000)
    s1 = scene(box[0], box[3], box[2] - box[0], box[3] - box[1], crs="EPSG:32634", modality="s1")
    grid = lay(s1, scene(645_000, 5_300_000, 10_000, 10_000))
    assert grid.crs.to_epsg() == 32633
    assert 649_000 < grid.left < 650_100


def test_scenes_that_dont_overlap_are_refused_with_where_they_lie():
    with pytest.raises(InputError, match=r"(?s)don't overlap.*s1: 48.* N, 13.* E.*s2: 49"):
        lay(scene(400_000, 5_400_000, 9_000, 9_000, modality="s1"), scene(400_000, 5_500_000, 9_000, 9_000))


def test_scenes_of_different_hemispheres_are_named():
    with pytest.raises(InputError, match=r"(?s)don't overlap.* S, .* N, .*different hemispheres.*EPSG:327xx"):
        lay(
            scene(400_000, 5_400_000, 9_000, 9_000, crs="EPSG:32733", modality="s1"),
            scene(400_000, 5_400_000, 9_000, 9_000),
        )


@pytest.mark.parametrize(("left", "code"), [(179.974, 32660), (-180.024, 32601), (179.99, 32601)])
def test_degrees_beyond_the_180th_meridian_are_refused_with_the_zone_to_warp_to(left, code):
    with pytest.raises(InputError, match=rf"(?s)beyond the 180th meridian.*gdalwarp -t_srs EPSG:{code}"):
        lay(scene(left, 60, 0.05, 0.04, crs="EPSG:4326", modality="s1"))


@pytest.mark.parametrize("left", [179.9, -180])
def test_degrees_up_to_the_180th_meridian_are_no_mistake(left):
    assert lay(scene(left, 60, 0.1, 0.1, crs="EPSG:4326")).width_m > 5_000


def test_less_ground_than_a_tile_is_refused():
    with pytest.raises(InputError, match=r"(?s)too small.*1190 x 5000 m"):
        lay(scene(400_000, 5_400_000, 1_190, 5_000))
    with pytest.raises(InputError, match="less ground in common"):
        lay(scene(400_000, 5_400_000, 5_000, 5_000), scene(404_000, 5_400_000, 5_000, 5_000, modality="s1"))


def test_coordinates_outside_the_crs_are_refused():
    with pytest.raises(InputError, match="outside its CRS"):
        lay(scene(9e9, 9e9, 9_000, 9_000))


def test_a_patch_of_one_tile_is_one_tile():
    grid = lay(scene(400_000, 5_400_000, 1_200, 1_200))
    assert grid.tile_tops_m == grid.tile_lefts_m == (0,)
    assert isinstance(grid, Grid)
