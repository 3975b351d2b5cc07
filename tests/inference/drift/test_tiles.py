"""Which tiles of a scene are looked at, and in which numbers."""

import numpy as np
import pytest
import rasterio

from fusmae.errors import InputError
from fusmae.inference.drift.reference import TILE_SHARES
from fusmae.inference.drift.tiles import SceneTiles, describe_tiles, spread_units
from fusmae.inference.run_tiles import embedded_units
from fusmae.inference.scene.grid import Grid, lay_grid
from fusmae.inference.scene.reader import SceneReader
from fusmae.inference.scene.scene import open_scenes
from tests.inference.conftest import GSD_M, UTM, band, make_scenes

BANDS = tuple(GSD_M)


def grid(rows, columns):
    return Grid(UTM, 0.0, 0.0, 240, 240, 60, columns * 240, rows * 240)


def described(model, paths, max_tiles=1000, advance=lambda: None):
    scenes = open_scenes(model.session.inputs, paths, {})
    laid = lay_grid(scenes, model.session.inputs, 240)
    with SceneReader(scenes, model.session.inputs, laid) as reader:
        return describe_tiles(model.session, reader, spread_units(laid, max_tiles), advance)


@pytest.mark.parametrize("max_tiles", [12, 1000])
def test_all_of_a_small_scene_is_looked_at(max_tiles):
    assert spread_units(grid(3, 4), max_tiles) == grid(3, 4).units()


@pytest.mark.parametrize(("rows", "columns"), [(100, 10), (457, 91), (40, 600)])
def test_rows_of_a_large_scene_are_evenly_spread_and_about_as_many_tiles_as_are_wanted(rows, columns):
    found = spread_units(grid(rows, columns), 500)
    num_tiles = sum(len(unit.lefts_m) for unit in found)
    assert 500 - columns <= num_tiles <= 500 + columns
    numbers = [unit.number for unit in found]
    (step,) = set(np.diff(numbers)) or {0}
    total = len(grid(rows, columns).units())
    assert numbers[0] <= step
    assert total - 1 - numbers[-1] <= step


def test_one_row_is_looked_at_however_few_tiles_are_wanted():
    assert len(spread_units(grid(3, 200), 1)) == 1


def test_tiles_are_described_by_the_order_of_their_pixels_their_embedding_and_their_corner(scenes, model):
    found = described(model, scenes.paths)
    assert found.corners_m.tolist() == [[left, top] for top in (0, 240, 480) for left in (0, 240, 480, 720)]
    assert (found.settings, found.setting) == (("s1+s2",) * 12, "s1+s2")
    for number, name in enumerate(BANDS):
        side = 240 // GSD_M[name]
        tile = band(name, 720, 960)[side : 2 * side, 2 * side : 3 * side]
        np.testing.assert_allclose(found.quantiles[6, number], np.quantile(tile, TILE_SHARES), rtol=1e-5)
    scenes = open_scenes(model.session.inputs, scenes.paths, {})
    with SceneReader(scenes, model.session.inputs, lay_grid(scenes, model.session.inputs, 240)) as reader:
        units = list(embedded_units(model.session, reader, reader.grid.units()))
    np.testing.assert_array_equal(found.embeddings, np.concatenate([unit.embeddings for unit in units]))


def test_bands_of_a_sensor_that_a_tile_lacks_are_nan_and_tiles_without_data_are_left_out(scenes, model):
    with rasterio.open(scenes.s1, "r+") as dataset:
        pixels = dataset.read()
        pixels[:, :, :24] = np.nan
        dataset.write(pixels)
    for path in scenes.s2.iterdir():
        with rasterio.open(path, "r+") as dataset:
            pixels = dataset.read()
            pixels[:, : 240 // int(dataset.res[0])] = 0
            dataset.write(pixels)
    found = described(model, scenes.paths)
    assert len(found.settings) == 11
    assert [0, 0] not in found.corners_m.tolist()
    present = {"s1": (True, False), "s2": (False, True), "s1+s2": (True, True)}
    for setting, quantiles in zip(found.settings, found.quantiles, strict=True):
        assert (np.isfinite(quantiles[:2]).all(), np.isfinite(quantiles[2:]).all()) == present[setting]
        assert np.isnan(quantiles).sum() == 32 * {"s1": 3, "s2": 2, "s1+s2": 0}[setting]
    assert found.setting == "s1+s2"


def test_the_setting_is_that_of_most_tiles():
    empty = np.zeros((3, 0), np.float32)
    assert SceneTiles(empty, empty, ("s1", "s1+s2", "s1"), np.zeros((3, 2), np.int64)).setting == "s1"


def test_only_the_wanted_rows_are_read_and_each_is_told_once(scenes, model):
    told = []
    found = described(model, scenes.paths, max_tiles=4, advance=lambda: told.append(1))
    assert found.corners_m[:, 1].tolist() == [240] * 4
    assert len(told) == 1


def without_data(scenes):
    with rasterio.open(scenes.s1, "r+") as dataset:
        dataset.write(np.zeros(dataset.read().shape, np.float32))
    return {"s1": [scenes.s1]}


def truncated(scenes):
    with scenes.s1.open("r+b") as file:
        file.truncate(scenes.s1.stat().st_size // 2)
    return {"s1": [scenes.s1]}


@pytest.mark.parametrize(("damage", "named"), [(without_data, "no tile with data"), (truncated, "can't be read")])
def test_scenes_that_can_not_be_looked_at_are_refused(tmp_path, model, damage, named):
    scenes = make_scenes(tmp_path / "in", compress="deflate", tiled=True, blockxsize=16, blockysize=16)
    with pytest.raises(InputError, match=named):
        described(model, damage(scenes))
