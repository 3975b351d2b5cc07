"""A scene is opened once, and refused before anything is read if it can't be placed."""

from datetime import UTC, datetime

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.transform import from_origin

from fusmae.errors import InputError
from fusmae.inference.scene import open_scenes, scene_date

from .conftest import LEFT, TOP, write_raster


def test_scenes_know_their_bands_and_place(scenes, model):
    found = open_scenes(model.session.inputs, scenes.paths, {})
    assert list(found) == ["s1", "s2"]
    assert list(found["s2"].bands) == ["B02", "B03", "B05"]
    assert found["s1"].crs.to_epsg() == 32633
    assert len(found["s2"].files) == 3


@pytest.mark.parametrize("paths", [{}, {"s1": [], "s2": []}, {"s3": ["a.tif"]}])
def test_no_scene_or_an_unknown_sensor_is_refused(paths, model):
    with pytest.raises(InputError, match=r"(?s)sensor that the model knows.*--s1, --s2"):
        open_scenes(model.session.inputs, paths, {})


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
