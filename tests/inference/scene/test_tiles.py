"""Strips and batches hold the same pixels however a run came to them."""

from dataclasses import replace

import numpy as np
import pytest

from fusmae.inference.scene import grid as grid_module
from fusmae.inference.scene.grid import lay_grid
from fusmae.inference.scene.reader import SceneReader
from fusmae.inference.scene.scene import open_scenes
from fusmae.inference.scene.tiles import BATCH_SIZE, LOOK_PX, TileBatch, UnitView, cut_batches, look_side_m, read_strips
from tests.inference.conftest import make_scenes, write_raster


@pytest.fixture
def reader(scenes, model):
    opened = open_scenes(model.session.inputs, scenes.paths, {})
    with SceneReader(opened, model.session.inputs, lay_grid(opened, model.session.inputs, None)) as found:
        yield found


def cut(reader, units):
    return list(cut_batches(read_strips(reader, units), reader.inputs, reader.grid.cell_m))


def same(a, b):
    if type(a) is not type(b) or a.unit != b.unit:
        return False
    if isinstance(a, UnitView):
        return np.array_equal(a.has_data, b.has_data) and np.array_equal(a.look, b.look, equal_nan=True)
    return (a.columns, a.modalities) == (b.columns, b.modalities) and all(
        np.array_equal(a.pixels[name], b.pixels[name]) for name in a.pixels
    )


@pytest.mark.parametrize("strip_m", [480, 120_000])
def test_batches_do_not_depend_on_where_a_run_begins(reader, strip_m, monkeypatch):
    monkeypatch.setattr(grid_module, "_STRIP_M", strip_m)
    units = reader.grid.units()
    whole = cut(reader, units)
    for start in (1, 2, len(units) - 1):
        part = cut(reader, units[start:])
        expected = [item for item in whole if item.unit in units[start:]]
        assert all(same(a, b) for a, b in zip(part, expected, strict=True))


def test_tiles_are_the_pixels_of_their_place(reader):
    for item in cut(reader, reader.grid.units()):
        if isinstance(item, UnitView):
            continue
        for place, column in enumerate(item.columns):
            for array in reader.inputs:
                left_m = item.unit.lefts_m[column]
                expected = reader.read(array, item.unit.top_m, left_m, reader.grid.tile_m, reader.grid.tile_m)
                assert np.array_equal(item.pixels[array.name][place], expected)


def test_batches_are_bounded_and_hold_every_tile_once(reader):
    wide = replace(reader.grid, stride_m=20, cell_m=20)
    reader.grid = wide
    items = cut(reader, wide.units()[:2])
    batches = [item for item in items if isinstance(item, TileBatch)]
    assert max(len(batch.columns) for batch in batches) == BATCH_SIZE
    for unit in wide.units()[:2]:
        columns = [column for batch in batches if batch.unit == unit for column in batch.columns]
        assert columns == list(range(len(unit.lefts_m)))


def punched(tmp_path, height_px):
    """Both sensors; S1 has no data in the first rows, to the left S2 has none either."""
    scenes = make_scenes(tmp_path, 240, 960)
    s1 = np.random.default_rng(0).normal(-12, 2, (2, 24, 96)).astype(np.float32)
    s1[:, :height_px] = np.nan
    write_raster(scenes.s1, s1, names=("VV", "VH"))
    for name, gsd_m in (("B02", 10), ("B03", 10), ("B05", 20)):
        s2 = np.full((1, 240 // gsd_m, 960 // gsd_m), 700, np.uint16)
        s2[..., : 240 // gsd_m] = 0
        write_raster(scenes.s2 / f"T33UUP_20200607T101031_{name}.tif", s2, gsd_m=gsd_m)
    return scenes


def batches_of(scenes, model):
    opened = open_scenes(model.session.inputs, scenes.paths, {})
    grid = lay_grid(opened, model.session.inputs, 240)
    with SceneReader(opened, model.session.inputs, grid) as reader:
        return cut(reader, grid.units())


def test_a_sensor_with_much_nodata_in_a_tile_is_absent_there(tmp_path, model):
    *batches, cells = batches_of(punched(tmp_path, 3), model)
    # 12.5 % of S1 is missing everywhere; of the first tile all of S2.
    assert [(batch.modalities, batch.columns) for batch in batches] == [(("s2",), (1, 2, 3))]
    assert set(batches[0].pixels) == {"s2_10m", "s2_20m"}
    assert cells.has_data.all()


def test_a_little_nodata_is_filled_with_the_tiles_own_means(tmp_path, model):
    *batches, _ = batches_of(punched(tmp_path, 2), model)
    assert [(batch.modalities, batch.columns) for batch in batches] == [(("s1",), (0,)), (("s1", "s2"), (1, 2, 3))]
    tile = batches[0].pixels["s1_10m"][0]
    assert np.allclose(tile[:, :2], tile[:, 2:].mean(axis=(1, 2))[:, None, None], atol=1e-4)


def test_cells_without_data_of_either_sensor_are_known(tmp_path, model):
    *_, cells = batches_of(punched(tmp_path, 24), model)
    num_columns = 240 // (960 // cells.has_data.shape[1])
    assert not cells.has_data[:, :num_columns].any()
    assert cells.has_data[:, num_columns:].all()


def test_the_scene_is_shown_in_its_own_pixels_and_no_more_of_them_than_a_picture_has_room_for(reader):
    grid = replace(reader.grid, cell_m=120, block_m=120)
    finest = min(item.gsd_m for item in reader.inputs)
    for pixels, expected in ((LOOK_PX, finest), (LOOK_PX + 1, 2 * finest), (100 * LOOK_PX, 120)):
        assert look_side_m(replace(grid, width_m=pixels * finest, height_m=1200), reader.inputs) == expected
        assert look_side_m(replace(grid, height_m=pixels * finest, width_m=1200), reader.inputs) == expected


def test_a_strip_is_shown_by_means_of_its_scene_s_pixels(reader):
    (unit,) = [unit for unit in reader.grid.units() if unit.number == 0]
    cell_m, gsd_m = reader.grid.cell_m, reader.inputs[0].gsd_m
    fine, coarse = (
        [
            found
            for found in cut_batches(read_strips(reader, [unit]), reader.inputs, cell_m, side)
            if isinstance(found, UnitView)
        ]
        for side in (gsd_m, None)
    )
    scale = cell_m // gsd_m
    assert fine[0].look.shape[1:] == tuple(side * scale for side in coarse[0].look.shape[1:])
    blocks = fine[0].look.reshape(len(fine[0].look), coarse[0].look.shape[1], scale, -1, scale)
    np.testing.assert_allclose(np.nanmean(blocks, axis=(2, 4)), coarse[0].look, rtol=1e-4)
