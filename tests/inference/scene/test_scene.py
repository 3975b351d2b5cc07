"""A scene is opened once, and refused before anything is read if it can't be placed."""

from datetime import UTC, datetime

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.transform import from_origin

from fusmae.errors import InputError
from fusmae.inference.scene.scene import Reading, open_scenes, scene_date
from tests.inference.conftest import LEFT, TOP, write_raster


def test_scenes_know_their_bands_and_place(scenes, model):
    found = open_scenes(model.session.inputs, scenes.paths, {})
    assert list(found) == ["s1", "s2"]
    assert list(found["s2"].bands) == ["B02", "B03", "B05"]
    assert found["s1"].crs.to_epsg() == 32633
    assert len(found["s2"].files) == 3


@pytest.mark.parametrize(
    ("paths", "problem"),
    [
        ({}, "There is no scene"),
        ({"s1": [], "s2": []}, "There is no scene"),
        ({"s1": ["b.tif"], "s3": ["a.tif"]}, "The model takes no s3"),
    ],
)
def test_no_scene_or_an_unknown_modality_is_refused(paths, problem, model):
    with pytest.raises(InputError, match=rf"(?s){problem}.*--scene s1=PATH, --scene s2=PATH"):
        open_scenes(model.session.inputs, paths, {})


def test_options_for_an_absent_scene_are_refused(model):
    with pytest.raises(InputError, match=r"(?s)how to read s2, but no s2 scene.*add --scene s2=PATH"):
        open_scenes(model.session.inputs, {"s1": ["a.tif"]}, {"s2": Reading(offset=1000)})


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_scene_without_crs_is_refused_with_the_command_that_sets_it(tmp_path, model):
    path = write_raster(tmp_path / "s1.tif", np.ones((2, 24, 24), np.float32), names=("VV", "VH"), crs=None)
    with pytest.raises(InputError, match=r"(?s)s1\.tif has no georeference.*CRS None.*rio edit-info"):
        open_scenes(model.session.inputs, {"s1": [path]}, {})


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_ground_control_points_alone_are_refused_with_what_to_do(tmp_path, model):
    path = tmp_path / "s1.tif"
    points = [GroundControlPoint(row, column, 13 + column, 48 - row) for row in (0, 24) for column in (0, 24)]
    profile = {"driver": "GTiff", "count": 2, "height": 24, "width": 24, "dtype": "float32"}
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(np.ones((2, 24, 24), np.float32))
        dataset.descriptions = ("VV", "VH")
        dataset.gcps = (points, rasterio.CRS.from_epsg(4326))
    with pytest.raises(InputError, match=r"(?s)4 ground control points.*terrain-correct"):
        open_scenes(model.session.inputs, {"s1": [path]}, {})


@pytest.mark.parametrize("kind", ["complex64", "complex_int16"])
def test_complex_pixels_are_refused_with_what_to_do(tmp_path, model, kind):
    profile = {"driver": "GTiff", "count": 2, "height": 24, "width": 24, "dtype": kind, "crs": "EPSG:32633"}
    with rasterio.open(tmp_path / "slc.tif", "w", transform=from_origin(LEFT, TOP, 10, 10), **profile) as dataset:
        dataset.descriptions = ("VV", "VH")
    with pytest.raises(InputError, match=r"(?s)slc\.tif has complex pixels.*SLC product.*GRD product.*SNAP"):
        open_scenes(model.session.inputs, {"s1": [tmp_path / "slc.tif"]}, {})


def test_the_date_is_that_of_file_names_and_of_s2_first(tmp_path, scenes, model):
    found = open_scenes(model.session.inputs, scenes.paths, {})
    assert scene_date(found) == datetime(2020, 6, 7, 10, 10, 31, tzinfo=UTC)
    assert scene_date({"s1": found["s1"]}) is None


def dated(tmp_path, model, name):
    """The date of an S1 scene of one file."""
    path = write_raster(tmp_path / name, np.ones((2, 24, 24), np.float32), names=("VV", "VH"))
    return scene_date(open_scenes(model.session.inputs, {"s1": [path]}, {}))


TAKEN = datetime(2020, 6, 7, 1, 8, 5, tzinfo=UTC)
DAY = datetime(2020, 6, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "date"),
    [
        ("S1A_20200607T010805_VV.tif", TAKEN),
        ("s1a-iw-grd-vv-20200607t010805-20200607t010830.tiff", TAKEN),
        ("20200607T010805Z.tif", TAKEN),
        ("2020-06-07T01-08-05.tif", TAKEN),
        ("scene_20200607.tif", DAY),
        ("scene_2020-06-07.tif", DAY),
        ("scene_2020_06_07_VV.tif", DAY),
        ("2020-06-07/s1.tif", DAY),
        ("S1A_IW_20200607T010805.SAFE/measurement/s1.tif", TAKEN),
        ("S1A_IW_20200607T010805/measurement/a/s1.tif", TAKEN),
        ("20190101T000000/S1A_20200607T010805.tif", TAKEN),
    ],
)
def test_dates_in_the_nearest_name_are_read(tmp_path, model, name, date):
    assert dated(tmp_path, model, name) == date


@pytest.mark.parametrize(
    "name",
    [
        "MOSAIC_20200631T000000.tif",
        "scene_20200607T010860.tif",
        "scene_20200607T250000.tif",
        "scene_20201301.tif",
        "scene_2020-02-30.tif",
        "scene_20000101.tif",
        "scene_120200607.tif",
        "run_20200607T010805/out/s1.tif",
    ],
)
def test_what_is_no_date_of_the_scene_is_passed_over(tmp_path, model, name):
    assert dated(tmp_path, model, name) is None


def test_an_impossible_date_leaves_the_word_to_the_next_name(tmp_path, model):
    assert dated(tmp_path, model, "2020-06-07/MOSAIC_20200631T000000.tif") == DAY
    assert dated(tmp_path, model, "20200631T000000_20200607T010805.tif") == TAKEN
