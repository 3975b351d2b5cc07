"""What no map is made of, and what a run that fails leaves to others: nothing half-written, and all that is theirs."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from rasterio.warp import transform

from fusmae.errors import InputError, StorageError
from fusmae.inference.map.predict import predict_map
from fusmae.inference.map.progress import TileResult, Work
from fusmae.inference.scene.scene import Reading
from tests.inference.conftest import band, make_scenes, write_raster
from tests.inference.test_session import edited

OTHER = "fedcba9876543210"


def s1_of(path, side_m=1440, change=lambda pixels: pixels, **place):
    pixels = change(np.stack([band("VV", side_m, side_m), band("VH", side_m, side_m)]))
    return {"s1": [write_raster(path, pixels, names=("VV", "VH"), **place)]}


def unstated_nodata(path):
    def change(pixels):
        pixels[:, :43] = -9999
        return pixels

    return s1_of(path, change=change)


def across_the_antimeridian(path):
    return s1_of(path, crs="EPSG:4326", transform=from_origin(179.99, 60, 1.8e-4, 9e-5))


def without_crs(path):
    return s1_of(path, crs=None)


def complex_pixels(path):
    return s1_of(path, change=lambda pixels: pixels.astype(np.complex64))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    ("make", "named"),
    [
        (unstated_nodata, r"(?s)no measurements.*most often -9999.*rio edit-info FILE --nodata VALUE"),
        (across_the_antimeridian, r"(?s)180th meridian.*gdalwarp -t_srs EPSG:32601"),
        (without_crs, r"(?s)no georeference.*rio edit-info"),
        (complex_pixels, r"(?s)complex pixels.*GRD"),
    ],
)
def test_scenes_that_would_give_made_up_maps_are_refused_and_no_folder_is_made(tmp_path, model, make, named):
    with pytest.raises(InputError, match=named):
        predict_map(model, make(tmp_path / "s1.tif"), tmp_path / "out" / "map.tif")
    assert not (tmp_path / "out").exists()


def test_one_pixel_that_the_graph_could_not_hold_is_no_hole_in_the_map(tmp_path, model):
    def change(pixels):
        pixels[:, 70, 70] = -3.4e38
        return pixels

    with pytest.raises(InputError, match="s1_10m has NaN or infinite pixels, or some beyond"):
        predict_map(model, s1_of(tmp_path / "s1.tif", change=change), tmp_path / "out" / "map.tif", is_checked=False)
    assert not list((tmp_path / "out").iterdir())


def test_a_scene_in_metres_across_the_antimeridian_is_mapped_whole(tmp_path, model):
    """In the zone east of it; GeoJSON cuts its outline in two and has its box from west to east (RFC 7946, 3.1.9)."""
    (x,), (y,) = transform("EPSG:4326", "EPSG:32601", [180], [60])
    made = predict_map(
        model, s1_of(tmp_path / "s1.tif", left=x - 720, top=y, crs="EPSG:32601"), tmp_path / "out" / "map.tif"
    )
    assert made.contents.counts[0] == 0
    item = json.loads((tmp_path / "out" / "map.json").read_text(encoding="utf-8"))
    west, _, east, _ = item["bbox"]
    assert 179.98 < west < 180
    assert -180 < east < -179.98
    assert item["geometry"]["type"] == "MultiPolygon"
    lons = [lon for (ring,) in item["geometry"]["coordinates"] for lon, _ in ring]
    assert all(abs(lon) > 179.98 for lon in lons)


def test_a_model_file_whose_metadata_disagree_makes_no_map(tmp_path, scenes, exported):
    path = edited(exported, tmp_path, lambda metadata: metadata["inputs"][0].update(bands=["VV"]))
    done = predict(path, scenes, tmp_path / "out").communicate()[1]
    assert "edited.onnx has metadata of another graph" in done
    assert "Traceback" not in done
    assert not (tmp_path / "out").exists()


def predict(model_path, scenes, folder):
    command = [sys.executable, "-m", "fusmae", "predict", "--model", model_path, "--stride", "40"]
    command += ["--s1", scenes.s1, "--s2", scenes.s2, "--out", folder / "map.tif"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_a_run_that_is_refused_keeps_what_another_one_has_predicted(tmp_path, model):
    scenes = make_scenes(tmp_path / "in", compress="deflate", tiled=True, blockxsize=16, blockysize=16)
    out = tmp_path / "out" / "map.tif"
    other = Work(out, OTHER, TileResult).folder
    other.mkdir(parents=True)
    (other / "unit-000000.npz").write_bytes(b"of another run")
    with pytest.raises(InputError, match="offset of 1000"):
        predict_map(model, scenes.paths, out, readings={"s2": Reading(offset=1000)})
    path = next(scenes.s2.glob("*B03*"))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(InputError, match="cut short"):
        predict_map(model, scenes.paths, out, is_checked=False)
    assert [item.name for item in out.parent.iterdir()] == [other.name]
    assert (other / "unit-000000.npz").read_bytes() == b"of another run"


def test_a_second_run_for_the_same_map_is_refused_and_the_first_one_ends(tmp_path, model, exported):
    scenes = make_scenes(tmp_path / "in", 2400, 1800)
    folder = tmp_path / "out"
    first = predict(exported.path, scenes, folder)
    while first.poll() is None and not list(folder.glob(".map.tif.*/unit-*.npz")):
        time.sleep(0.002)
    os.kill(first.pid, signal.SIGSTOP)
    os.waitpid(first.pid, os.WUNTRACED)
    try:
        before = sorted(path.name for path in folder.rglob("*"))
        for stride_m in (40, 120):
            with pytest.raises(StorageError, match=r"(?s)Another run is writing .*map\.tif.*name another --out"):
                predict_map(model, scenes.paths, folder / "map.tif", stride_m=stride_m)
        assert sorted(path.name for path in folder.rglob("*")) == before
    finally:
        os.kill(first.pid, signal.SIGCONT)
    first.communicate()
    assert first.returncode == 0
    with rasterio.open(folder / "map.tif") as dataset:
        assert (dataset.read(1) != 255).all()
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("name", ["map[1].tif", "map*.tif", "map?.tif"])
def test_a_name_that_looks_like_a_pattern_leaves_nothing_but_its_map(tmp_path, scenes, model, name):
    theirs = tmp_path / "out" / f".map1.tif.{OTHER}"
    theirs.mkdir(parents=True)
    made = predict_map(model, scenes.paths, tmp_path / "out" / name)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {theirs.name, *(path.name for path in made.files)}
