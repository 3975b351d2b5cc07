"""Blending is a mean of tiles, smooth across their edges."""

import numpy as np
import pytest
from rasterio.crs import CRS

from fusmae.inference.map.blend import blended
from fusmae.inference.map.progress import TileResult, Work
from fusmae.inference.scene import grid as grid_module
from fusmae.inference.scene.grid import Grid


def make_grid(stride_m=600, height_m=4800, width_m=6000):
    return Grid(CRS.from_epsg(32633), 0, 0, 1200, stride_m, max(60, stride_m // 5), width_m, height_m)


def blend(grid, tmp_path, predict, has_data=lambda unit, shape: np.ones(shape, bool)):
    """Blend tiles whose probabilities are `predict(top_m, left_m)`; `[K, rows, columns]`."""
    work = Work(tmp_path / "map.tif", "key", TileResult)
    for unit in grid.units():
        shape = unit.height_m // grid.cell_m, unit.width_m // grid.cell_m
        values = np.array([predict(unit.top_m, left) for left in unit.lefts_m], np.float32)
        work.save(unit, TileResult(values, has_data(unit, shape), np.zeros((1, *shape), np.float32)))
    return np.concatenate([rows.answers for rows in blended(grid, work)], axis=1)


@pytest.mark.parametrize("stride_m", [60, 300, 600, 1200])
def test_equal_tiles_make_an_even_map(tmp_path, stride_m):
    grid = make_grid(stride_m, 2940, 3300)
    found = blend(grid, tmp_path, lambda top, left: (0.25, 0.75))
    assert found.shape == (2, *grid.shape)
    assert np.allclose(found, np.array([0.25, 0.75])[:, None, None])


def test_a_cell_is_the_mean_weighted_by_the_cosine_window(tmp_path):
    grid = make_grid()
    found = blend(grid, tmp_path, lambda top, left: (left / 6000, top / 4800))
    row, column = 17, 23
    y, x = (row + 0.5) * 120, (column + 0.5) * 120
    weights, values = [], []
    for top in grid.tile_tops_m:
        for left in grid.tile_lefts_m:
            if 0 < y - top < 1200 and 0 < x - left < 1200:
                weights.append(np.sin(np.pi * (y - top) / 1200) ** 2 * np.sin(np.pi * (x - left) / 1200) ** 2)
                values.append((left / 6000, top / 4800))
    assert len(weights) == 4
    assert np.allclose(found[:, row, column], np.average(values, axis=0, weights=weights))


def test_no_edge_of_a_tile_shows(tmp_path):
    """Tiles of 0 and 1 side by side: from cell to cell the map changes by less than a third of that."""
    grid = make_grid()
    found = blend(grid, tmp_path, lambda top, left: (float(left // 1200 % 2), 0.5))
    assert found[0].min() < 0.05
    assert found[0].max() > 0.95
    assert np.abs(np.diff(found[0], axis=1)).max() < 1 / 3


def test_the_map_does_not_depend_on_the_blocks_of_columns(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    table = {(top, left): random.random(2) for top in range(0, 4800, 60) for left in range(0, 6000, 60)}
    found = blend(make_grid(), tmp_path / "a", lambda top, left: table[top, left])
    monkeypatch.setattr(grid_module, "_STRIP_M", 2000)
    assert np.array_equal(found, blend(make_grid(), tmp_path / "b", lambda top, left: table[top, left]))


def test_tiles_without_prediction_count_for_nothing(tmp_path):
    nan = float("nan")
    found = blend(make_grid(), tmp_path, lambda top, left: (nan, nan) if left < 1800 else (0.3, 0.6))
    assert np.isnan(found[:, :, :15]).all()
    assert np.allclose(found[0, :, 15:], 0.3)


def test_cells_without_data_are_unknown_though_a_tile_covers_them(tmp_path):
    def has_data(unit, shape):
        found = np.ones(shape, bool)
        found[:, :7] = False
        return found

    found = blend(make_grid(), tmp_path, lambda top, left: (0.3, 0.6), has_data)
    assert np.isnan(found[:, :, :7]).all()
    assert np.isfinite(found[:, :, 7:]).all()
