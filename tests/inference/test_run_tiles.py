"""Embeddings of a scene's tiles are the model's own, each in the setting that its tile has."""

from contextlib import contextmanager

import numpy as np
import onnx
import pytest
import rasterio

from fusmae.errors import ExportError, InputError
from fusmae.inference.run_tiles import embedded_units, scene_batches
from fusmae.inference.scene import grid as grid_module
from fusmae.inference.scene.grid import lay_grid
from fusmae.inference.scene.reader import SceneReader
from fusmae.inference.scene.scene import open_scenes
from fusmae.inference.session import Session
from fusmae.release.export.onnx_file import write_graph
from tests.inference.conftest import band, make_scenes

TILE_M, ROWS, COLUMNS = 240, 3, 4


@contextmanager
def opened(model, paths, stride_m=TILE_M):
    scenes = open_scenes(model.session.inputs, paths, {})
    with SceneReader(scenes, model.session.inputs, lay_grid(scenes, model.session.inputs, stride_m)) as reader:
        yield reader


def embedded(model, paths, **options):
    with opened(model, paths, **options) as reader:
        return list(embedded_units(model.session, reader, reader.grid.units()))


def by_hand(session, top_m, left_m, modalities=("s1", "s2")):
    """The embedding of one tile, cut from the pixels that the scenes were written from."""
    pixels = {}
    for item in session.inputs:
        top, left = top_m // item.gsd_m, left_m // item.gsd_m
        whole = np.stack([band(name, 720, 960) for name in item.bands])
        pixels[item.name] = whole[None, :, top : top + item.side_px, left : left + item.side_px]
    pixels = {name: found for name, found in pixels.items() if name[:2] in modalities}
    return session.run(pixels, modalities)["embedding"][0]


def wiped(paths, rows_m, columns_m, value=0):
    """Put no data into a box of metres `(start, stop)` of every file."""
    for path in paths:
        with rasterio.open(path, "r+") as dataset:
            pixels, gsd_m = dataset.read(), int(dataset.res[0])
            rows, columns = (slice(start // gsd_m, stop // gsd_m) for start, stop in (rows_m, columns_m))
            pixels[:, rows, columns] = value
            dataset.write(pixels)


@pytest.mark.parametrize("value", [-np.inf, np.inf, np.nan])
def test_one_pixel_that_is_not_finite_is_filled_with_its_tiles_means(scenes, model, value):
    expected = embedded(model, scenes.paths)
    with rasterio.open(scenes.s1, "r+") as dataset:
        pixels = dataset.read()
        pixels[1, 30, 40] = value
        dataset.write(pixels)
        tile = pixels[:, 24:48, 24:48].copy()
    tile[:, 6, 16] = np.nan
    tile[:, 6, 16] = np.nanmean(tile, axis=(1, 2))
    found = embedded(model, scenes.paths)
    pixels = {"s1_10m": tile[None]}
    for item in model.session.inputs[1:]:
        whole = np.stack([band(name, 720, 960) for name in item.bands])
        first, side = 240 // item.gsd_m, item.side_px
        pixels[item.name] = whole[None, :, first : first + side, first : first + side]
    np.testing.assert_allclose(found[1].embeddings[1], model.session.run(pixels)["embedding"][0], atol=1e-5)
    np.testing.assert_array_equal(found[0].embeddings, expected[0].embeddings)


@pytest.mark.parametrize("setting", [("s1", "s2"), ("s1",), ("s2",)])
def test_embeddings_are_those_of_tiles_cut_by_hand(scenes, model, setting):
    units = embedded(model, {modality: scenes.paths[modality] for modality in setting})
    assert [unit.columns for unit in units] == [tuple(range(COLUMNS))] * ROWS
    assert {name for unit in units for name in unit.settings} == {"+".join(setting)}
    for row, unit in enumerate(units):
        expected = [by_hand(model.session, row * TILE_M, column * TILE_M, setting) for column in range(COLUMNS)]
        np.testing.assert_allclose(unit.embeddings, expected, atol=1e-5)
        assert unit.embeddings.dtype == np.float32


def test_tiles_may_overlap(scenes, model):
    units = embedded(model, scenes.paths, stride_m=120)
    assert sum(len(unit.columns) for unit in units) == 5 * 7
    expected = by_hand(model.session, 3 * 120, 5 * 120)
    np.testing.assert_allclose(units[3].embeddings[5], expected, atol=1e-5)


def test_tiles_without_data_are_left_out(scenes, model):
    files = [scenes.s1, *scenes.s2.iterdir()]
    wiped(files, (0, 240), (240, 480))
    wiped(files, (240, 480), (0, 960))
    # A little more than a tenth of the last tile.
    wiped(files, (480, 720), (720, 760))
    units = embedded(model, scenes.paths)
    assert [unit.columns for unit in units] == [(0, 2, 3), (), (0, 1, 2)]
    assert [unit.embeddings.shape for unit in units] == [(3, 16), (0, 16), (3, 16)]
    np.testing.assert_allclose(units[0].embeddings[1], by_hand(model.session, 0, 480), atol=1e-5)


def test_each_tile_is_embedded_from_the_sensors_that_it_has(scenes, model):
    wiped([scenes.s1], (0, 720), (240, 480), np.nan)
    wiped(scenes.s2.iterdir(), (0, 720), (720, 960))
    for row, unit in enumerate(embedded(model, scenes.paths)):
        assert unit.columns == (0, 1, 2, 3)
        assert unit.settings == ("s1+s2", "s2", "s1+s2", "s1")
        expected = [
            by_hand(model.session, row * TILE_M, column * TILE_M, setting.split("+"))
            for column, setting in enumerate(unit.settings)
        ]
        np.testing.assert_allclose(unit.embeddings, expected, atol=1e-5)


def test_embeddings_do_not_depend_on_the_blocks_that_a_scene_is_read_in(scenes, model, monkeypatch):
    whole = embedded(model, scenes.paths)
    monkeypatch.setattr(grid_module, "_STRIP_M", 720)
    blocks = embedded(model, scenes.paths)
    assert len(blocks) == 2 * ROWS
    for row in range(ROWS):
        joined = np.concatenate([blocks[row].embeddings, blocks[ROWS + row].embeddings])
        np.testing.assert_allclose(joined, whole[row].embeddings, atol=1e-5)


def test_some_units_alone_have_the_same_embeddings(scenes, model):
    whole = embedded(model, scenes.paths)
    with opened(model, scenes.paths) as reader:
        (last,) = embedded_units(model.session, reader, reader.grid.units()[2:])
    np.testing.assert_array_equal(last.embeddings, whole[2].embeddings)


def test_every_unit_comes_after_its_own_batches(scenes, model):
    wiped([scenes.s1, *scenes.s2.iterdir()], (240, 480), (0, 960))
    with opened(model, scenes.paths) as reader, scene_batches(reader, reader.grid.units()) as items:
        found = [(type(item).__name__, item.unit.number) for item in items]
    assert found == [("TileBatch", 0), ("UnitView", 0), ("UnitView", 1), ("TileBatch", 2), ("UnitView", 2)]


def test_a_truncated_file_is_named_after_the_units_that_were_whole(tmp_path, model):
    scenes = make_scenes(tmp_path / "in", 9600, 480, compress="deflate", tiled=True, blockxsize=16, blockysize=16)
    path = next(scenes.s2.glob("*B03*"))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 4 * 3)
    numbers = []
    with opened(model, scenes.paths) as reader, pytest.raises(InputError, match=r"B03\.tif can't be read"):
        numbers.extend(unit.unit.number for unit in embedded_units(model.session, reader, reader.grid.units()))
    assert 0 < len(numbers) < 40
    assert numbers == list(range(len(numbers)))


def test_who_stops_early_leaves_no_thread_behind(scenes, model):
    with opened(model, scenes.paths) as reader:
        units = embedded_units(model.session, reader, reader.grid.units())
        assert next(units).unit.number == 0
        units.close()
        assert [unit.unit.number for unit in embedded_units(model.session, reader, reader.grid.units())] == [0, 1, 2]


def test_a_graph_without_an_embedding_is_refused(exported, tmp_path):
    exported.session.require_embedding("tiny/1")
    graph = onnx.load(exported.path)
    (output,) = (item for item in graph.graph.output if item.name == "embedding")
    graph.graph.output.remove(output)
    write_graph(graph, tmp_path / "older.onnx")
    older = Session(tmp_path / "older.onnx")
    assert older.embedding_dim == 0
    with pytest.raises(ExportError, match=r"fusmae/3 gives no embedding(.|\n)*dvc repro export"):
        older.require_embedding("fusmae/3")
