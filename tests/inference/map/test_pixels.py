"""Maps of models that answer per pixel: right to the pixel, without seams, and the same however often begun."""

import hashlib

import numpy as np
import pytest
import rasterio
from typer.testing import CliRunner

from fusmae.cli import app
from fusmae.errors import InputError
from fusmae.inference.map.layers import STEP
from fusmae.inference.map.predict import predict_map
from fusmae.inference.map.progress import Work
from fusmae.inference.scene import grid as grid_module
from fusmae.inference.scene.grid import lay_grid
from fusmae.inference.scene.reader import SceneReader
from fusmae.inference.scene.scene import open_scenes
from fusmae.inference.scene.tiles import UnitView, cut_batches, read_strips
from fusmae.rasters.palette import class_colours
from tests.inference.conftest import LEFT, TASKS, TOP, make_scenes, write_raster

TILE_PX = 24


def read(path):
    with rasterio.open(path) as dataset:
        return dataset.read()


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def halves(low, high, left_of_px, above_px, shape=(72, 96)):
    """Pixels that are `low` to the left of a column and above a row, and `high` elsewhere."""
    pixels = np.full(shape, high, np.float32)
    pixels[:above_px] = low
    pixels[:, :left_of_px] = low
    return pixels


def s2_with_an_edge(folder, left=LEFT, top=TOP, edge=(41, 29)):
    for name, gsd_m in (("B02", 10), ("B03", 10), ("B05", 20)):
        pixels = halves(600, 1200, *(side * 10 // gsd_m for side in edge), (720 // gsd_m, 960 // gsd_m))
        write_raster(folder / f"{name}.tif", pixels.astype(np.uint16)[None], gsd_m=gsd_m, left=left, top=top)
    return folder


@pytest.mark.parametrize("offset_m", [0, 3.7])
def test_an_edge_is_where_it_is_in_the_scene(tmp_path, model_of, offset_m):
    """41 pixels from the left and 29 from the top, in the scene's own grid: the map is right to the pixel."""
    left, top = 400_000 + offset_m, 5_340_000 - offset_m
    folder = s2_with_an_edge(tmp_path / "s2", left, top)
    predict_map(model_of("follows_s2"), {"s2": [folder]}, tmp_path / "map.tif", is_checked=False)
    with rasterio.open(tmp_path / "map.tif") as dataset:
        assert dataset.crs.to_epsg() == 32633
        assert dataset.transform[:6] == (10, 0, left, 0, -10, top)
        assert np.array_equal(dataset.read(1), halves(1, 2, 41, 29))


def test_an_edge_in_a_scene_on_another_grid_is_right_to_half_a_pixel(tmp_path, model_of):
    """S1 is 3.7 m to the left of S2, whose grid the map has; edges of S1 are moved by less than half a pixel."""
    s2 = s2_with_an_edge(tmp_path / "s2", edge=(10, 10))
    pixels = np.stack([halves(-17, -7, 41, 29), halves(-20, -15, 41, 29)])
    s1 = write_raster(tmp_path / "s1.tif", pixels, names=("VV", "VH"), left=LEFT - 3.7, top=TOP + 3.7)
    predict_map(model_of("follows_s1"), {"s1": [s1], "s2": [s2]}, tmp_path / "map.tif", is_checked=False)
    with rasterio.open(tmp_path / "map.tif") as dataset:
        found, place = dataset.read(1), dataset.transform
    inside = found[:66, :90]
    first_column, first_row = (inside == 2).any(axis=0).argmax(), (inside == 2).any(axis=1).argmax()
    assert np.array_equal(inside, halves(1, 2, first_column, first_row, inside.shape))
    assert abs(place.c + first_column * 10 - (LEFT - 3.7 + 410)) <= 5
    assert abs(place.f - first_row * 10 - (TOP + 3.7 - 290)) <= 5


def test_a_pixel_is_the_mean_of_its_tiles_weighted_by_the_cosine_window(tmp_path, scenes, model_of):
    model = model_of("values")
    made = predict_map(model, scenes.paths, tmp_path / "map.tif")
    assert (made.grid.stride_m, made.grid.cell_m, made.grid.shape) == (120, 10, (72, 96))
    opened = open_scenes(model.session.inputs, scenes.paths, {})
    grid = lay_grid(opened, model.session.inputs, None, cell_m=10)
    row, column = 31, 47
    values, weights = [], []
    with SceneReader(opened, model.session.inputs, grid) as reader:
        for top in range(0, 49, 12):
            for left in range(0, 73, 12):
                y, x = (row + 0.5 - top) / TILE_PX, (column + 0.5 - left) / TILE_PX
                if 0 < y < 1 and 0 < x < 1:
                    box_m = (top * 10, left * 10, 240, 240)
                    pixels = {item.name: reader.read(item, *box_m)[None] for item in reader.inputs}
                    values.append(model.session.run(pixels)["value"][0, 0, row - top, column - left])
                    weights.append(np.sin(np.pi * y) ** 2 * np.sin(np.pi * x) ** 2)
    assert len(values) == 4
    found = read(tmp_path / "map.tif")[0, row, column]
    assert found == pytest.approx(np.average(values, weights=weights), rel=1e-5)
    assert np.ptp(values) > 0.01


def seam_ratio(path):
    """Mean difference of two neighbours at edges of tiles over the mean difference elsewhere, along both axes."""
    values = read(path)[0].astype(np.float64)
    at_edges, inside = [], []
    for axis in (0, 1):
        jumps = np.abs(np.diff(values, axis=axis))
        is_edge = (np.arange(jumps.shape[axis]) + 1) % (TILE_PX // 2) == 0
        at_edges.append(np.compress(is_edge, jumps, axis).mean())
        inside.append(np.compress(~is_edge, jumps, axis).mean())
    return sum(at_edges) / sum(inside)


def test_no_edge_of_a_tile_shows(tmp_path, model_of):
    """The answers of an untrained model depend on the place in the tile: side by side, tiles have seams."""
    scenes, model = make_scenes(tmp_path / "in", 1440, 1440), model_of("values")
    predict_map(model, scenes.paths, tmp_path / "blended.tif")
    predict_map(model, scenes.paths, tmp_path / "side.tif", stride_m=240)
    assert seam_ratio(tmp_path / "blended.tif") == pytest.approx(1, abs=0.15)
    assert seam_ratio(tmp_path / "side.tif") > 1.4


@pytest.mark.parametrize("name", ["segmentation", "values"])
@pytest.mark.parametrize("num_units", [1, 7])
def test_a_run_that_was_interrupted_goes_on_to_the_same_bits(tmp_path, scenes, model_of, monkeypatch, name, num_units):
    """In two blocks of columns, with tiles that overlap by five sixths, and a sensor that is missing here and there."""
    with rasterio.open(scenes.s1, "r+") as dataset:
        pixels = dataset.read()
        pixels[:, 30:50, 20:70] = np.nan
        dataset.write(pixels)
    monkeypatch.setattr(grid_module, "_STRIP_M", 480)
    options = {"stride_m": 40, "has_probabilities": name == "segmentation"}
    predict_map(model_of(name), scenes.paths, tmp_path / "whole" / "map.tif", **options)
    save, saved = Work.save, []

    def save_some(work, unit, result):
        if len(saved) == num_units:
            raise KeyboardInterrupt
        saved.append(unit)
        save(work, unit, result)

    monkeypatch.setattr(Work, "save", save_some)
    with pytest.raises(KeyboardInterrupt):
        predict_map(model_of(name), scenes.paths, tmp_path / "killed" / "map.tif", **options)
    assert not (tmp_path / "killed" / "map.tif").exists()
    monkeypatch.setattr(Work, "save", save)
    made = predict_map(model_of(name), scenes.paths, tmp_path / "killed" / "map.tif", **options)
    assert made.num_kept == num_units
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")


def test_a_map_does_not_depend_on_the_blocks_of_columns(tmp_path, scenes, model_of, monkeypatch):
    whole = predict_map(model_of("values"), scenes.paths, tmp_path / "a.tif", stride_m=80)
    monkeypatch.setattr(grid_module, "_STRIP_M", 400)
    blocks = predict_map(model_of("values"), scenes.paths, tmp_path / "b.tif", stride_m=80)
    # Batches differ, so that the last bit may.
    np.testing.assert_allclose(read(tmp_path / "a.tif"), read(tmp_path / "b.tif"), rtol=1e-5)
    assert whole.num_tiles == blocks.num_tiles == len(whole.grid.tile_tops_m) * len(whole.grid.tile_lefts_m)


@pytest.mark.parametrize(("height_m", "width_m"), [(720, 970), (770, 1010), (850, 1070), (240, 240)])
def test_every_pixel_of_a_scene_is_in_the_map(tmp_path, model_of, height_m, width_m):
    scenes = make_scenes(tmp_path / "in", height_m, width_m)
    made = predict_map(model_of("values"), {"s1": [scenes.s1]}, tmp_path / "map.tif")
    values = read(tmp_path / "map.tif")[0]
    is_known = np.isfinite(values)
    assert is_known[: height_m // 10, : width_m // 10].all()
    assert is_known.sum() == height_m * width_m // 100
    assert made.grid.width_m - width_m < 60
    assert made.contents.counts.tolist() == [values.size - is_known.sum(), is_known.sum()]
    assert made.contents.mean == pytest.approx(values[is_known].mean(dtype=float))
    assert (made.contents.low, made.contents.high) == (values[is_known].min(), values[is_known].max())


def test_pixels_without_data_in_every_modality_are_nodata_and_others_are_not(tmp_path, scenes, model_of):
    """S1 lacks a square, S2 another one; nothing is known where they meet."""
    for path, gsd_m, rows, columns in (
        (scenes.s1, 10, (200, 300), (300, 400)),
        *(
            (path, GSD, (240, 320), (340, 460))
            for path, GSD in zip(sorted(scenes.s2.iterdir()), (10, 10, 20), strict=True)
        ),
    ):
        with rasterio.open(path, "r+") as dataset:
            pixels = dataset.read()
            pixels[:, slice(*(side // gsd_m for side in rows)), slice(*(side // gsd_m for side in columns))] = 0
            dataset.write(pixels)
    predict_map(model_of("values"), scenes.paths, tmp_path / "map.tif")
    predict_map(model_of("segmentation"), scenes.paths, tmp_path / "classes.tif")
    is_empty = np.zeros((72, 96), bool)
    is_empty[24:30, 34:40] = True
    assert np.array_equal(np.isnan(read(tmp_path / "map.tif")[0]), is_empty)
    assert np.array_equal(read(tmp_path / "classes.tif")[0] == 0, is_empty)


def test_where_no_tile_has_enough_data_the_map_has_none(tmp_path, scenes, model_of):
    with rasterio.open(scenes.s1, "r+") as dataset:
        pixels = dataset.read()
        pixels[:, :, :60] = 0
        dataset.write(pixels)
    predict_map(model_of("values"), {"s1": [scenes.s1]}, tmp_path / "map.tif", stride_m=240)
    is_known = np.isfinite(read(tmp_path / "map.tif")[0])
    assert not is_known[:, :72].any()
    assert is_known[:, 72:].all()


@pytest.mark.parametrize("modality", ["s1", "s2"])
def test_one_sensor_alone_makes_a_map_of_its_own(tmp_path, scenes, model_of, modality):
    made = predict_map(model_of("values"), {modality: scenes.paths[modality]}, tmp_path / "one.tif")
    assert made.contents.counts[0] == 0
    predict_map(model_of("values"), scenes.paths, tmp_path / "both.tif")
    assert (read(tmp_path / "one.tif") != read(tmp_path / "both.tif")).any()


def test_cells_of_ten_metres_are_known_from_pixels_of_twenty(tmp_path, scenes, model_of):
    inputs = model_of("values").session.inputs
    opened = open_scenes(inputs, {"s2": [scenes.s2]}, {})
    grid = lay_grid(opened, inputs, None, cell_m=10)
    with SceneReader(opened, inputs, grid) as reader:
        (strip, *_) = read_strips(reader, grid.units()[:1])
        (coarse,) = (item for item in reader.inputs if item.gsd_m == 20)
        strip.pixels[coarse.name][:, :3, 5] = np.nan
        *_, view = cut_batches([strip], (coarse,), grid.cell_m, 60)
    assert isinstance(view, UnitView)
    assert not view.has_data[:6, 10:12].any()
    assert (~view.has_data).sum() == 12


def test_a_segmentation_is_a_raster_of_classes_with_names_and_colours(tmp_path, scenes, model_of):
    made = predict_map(model_of("segmentation"), scenes.paths, tmp_path / "out" / "map.tif", has_probabilities=True)
    endings = (".tif", ".json", ".png", "_probabilities.tif", ".tif.aux.xml")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(f"map{ending}" for ending in endings)
    assert made.files[0] == tmp_path / "out" / "map.tif"
    classes = TASKS["segmentation"].classes
    with rasterio.open(made.files[0]) as dataset:
        numbers, tags = dataset.read(1), dataset.tags()
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert (dataset.dtypes, dataset.nodata, dataset.descriptions) == (("uint8",), 0, ("most probable class",))
        assert [dataset.colormap(1)[number][:3] for number in (1, 2, 3)] == class_colours(classes)
    assert [tags[f"CLASS_{number}"] for number in (1, 2, 3)] == list(classes)
    assert (tags["KIND"], tags["MODEL"]) == ("segmentation", "segmentation/1")
    text = (tmp_path / "out" / "map.tif.aux.xml").read_text(encoding="utf-8")
    assert all(f"<Category>{name}</Category>" in text for name in ("no data", *classes))
    with rasterio.open(tmp_path / "out" / "map_probabilities.tif") as dataset:
        probabilities = dataset.read() * STEP
        assert dataset.descriptions == classes
        assert dataset.scales == (STEP,) * 3
    assert np.abs(probabilities.sum(axis=0) - 1).max() < 2 * STEP
    chosen = np.take_along_axis(probabilities, numbers[None].astype(int) - 1, axis=0)[0]
    assert (chosen >= probabilities.max(axis=0) - STEP).all()
    assert made.contents.counts.tolist() == [(numbers == number).sum() for number in range(4)]


@pytest.mark.parametrize(("name", "cell_m"), [("values", 10), ("value", 40)])
def test_values_have_a_name_a_unit_and_limits(tmp_path, scenes, model_of, name, cell_m):
    """Values of whole tiles are blended in cells, as classes of tiles are."""
    made = predict_map(model_of(name), scenes.paths, tmp_path / "map.tif")
    assert made.grid.cell_m == cell_m
    with rasterio.open(tmp_path / "map.tif") as dataset:
        values = dataset.read(1)
        assert (dataset.dtypes, dataset.descriptions, dataset.units) == (("float32",), ("biomass",), ("t/ha",))
        assert np.isnan(dataset.nodata)
        assert dataset.transform.a == cell_m
    assert 0 <= values.min() < values.max() <= 500
    item = (tmp_path / "map.json").read_text(encoding="utf-8")
    assert '"unit": "t/ha"' in item
    assert "classification" not in item
    assert not (tmp_path / "map.tif.aux.xml").exists()


def test_a_value_of_one_tile_is_the_models_own_answer(tmp_path, model_of):
    scenes = make_scenes(tmp_path / "one", 240, 240)
    for name in ("value", "values"):
        model = model_of(name)
        predict_map(model, scenes.paths, tmp_path / "map.tif")
        pixels = {}
        for item in model.session.inputs:
            files = [scenes.s1] if item.modality == "s1" else [next(scenes.s2.glob(f"*{band}*")) for band in item.bands]
            pixels[item.name] = np.concatenate([read(path) for path in files])[None]
        answer = model.session.run(pixels)["value"][0].squeeze()
        np.testing.assert_allclose(
            read(tmp_path / "map.tif")[0],
            np.broadcast_to(answer, (24, 24))[
                :: 24 // len(read(tmp_path / "map.tif")[0]), :: 24 // len(read(tmp_path / "map.tif")[0])
            ],
            rtol=1e-5,
        )


def test_single_labels_have_probabilities_and_a_confidence_of_their_own(tmp_path, scenes, model_of):
    predict_map(model_of("multiclass"), scenes.paths, tmp_path / "map.tif")
    *probabilities, sure = read(tmp_path / "map.tif") * STEP
    assert np.abs(sum(probabilities) - 1).max() < 2 * STEP
    shares = np.clip(probabilities, 1e-9, 1)
    expected = 1 + (shares * np.log(shares)).sum(axis=0) / np.log(3)
    assert np.abs(sure - expected).max() < 0.03
    assert (tmp_path / "map_classes.tif").exists()


@pytest.mark.parametrize(
    ("name", "hint"), [("values", "leave it out$"), ("multiclass", "the map of such a model holds")]
)
def test_probabilities_are_refused_where_there_are_none_or_always_some(tmp_path, scenes, model_of, name, hint):
    with pytest.raises(InputError, match=rf"(?s)--probabilities is for a segmentation.*{hint}"):
        predict_map(model_of(name), scenes.paths, tmp_path / "map.tif", has_probabilities=True)
    assert not (tmp_path / "map.tif").exists()


def test_names_of_classes_of_an_older_map_are_not_left_beside_values(tmp_path, scenes, model_of):
    predict_map(model_of("segmentation"), scenes.paths, tmp_path / "map.tif")
    assert (tmp_path / "map.tif.aux.xml").exists()
    predict_map(model_of("values"), scenes.paths, tmp_path / "map.tif")
    assert not (tmp_path / "map.tif.aux.xml").exists()


def run(graph, out, *arguments):
    command = ["predict", "--model", str(graph), "--out", str(out), *map(str, arguments)]
    return CliRunner().invoke(app, command)


def test_values_are_summed_up_with_their_unit(tmp_path, scenes, model_of):
    done = run(model_of("values").session.path, tmp_path / "map.tif", "--s2", scenes.s2)
    assert done.exit_code == 0
    with rasterio.open(tmp_path / "map.tif") as dataset:
        values = dataset.read(1)
    low, mean, high = (f"{number:.4g}" for number in (values.min(), values.mean(dtype=float), values.max()))
    assert f"biomass (t/ha): minimum {low}, mean {mean}, maximum {high}\n" in done.stdout
    assert "72 x 96 pixels of 10 m, 0 without data" in done.stdout


def test_classes_are_summed_up_by_their_share_of_the_map(tmp_path, scenes, model_of):
    done = run(model_of("segmentation").session.path, tmp_path / "map.tif", "--s2", scenes.s2, "--probabilities")
    assert done.exit_code == 0
    with rasterio.open(tmp_path / "map.tif") as dataset:
        share = (dataset.read(1) == 3).mean()
    assert f"{share:6.1%}  town\n" in done.stdout
    assert f"wrote {tmp_path / 'map_probabilities.tif'}" in done.stdout


def test_probabilities_of_values_are_refused_before_anything_is_read(tmp_path, model_of):
    error = run(model_of("values").session.path, tmp_path / "map.tif", "--s2", "absent", "--probabilities").exception
    assert isinstance(error, InputError)
    assert "--probabilities is for a segmentation, which this model is not." in str(error)
    assert "regression of biomass (t/ha)" in str(error)
