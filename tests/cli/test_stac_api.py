"""A search in a real STAC API, of scenes that a web server holds as Cloud-Optimized GeoTIFFs."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
import rasterio
import requests
from rasterio.shutil import copy

from fusmae.errors import InputError
from tests.cli.test_stac import degrees, made, pixels, run
from tests.inference.conftest import make_scenes, write_raster
from tests.stac import make_item, s2_files, serving

NUM_CLOUDY = 230  # more than two pages of an answer


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """S2 with the offset of 1000, and S1 as power, as archives have them now."""
    scenes = make_scenes(tmp_path_factory.mktemp("scenes"))
    for path in scenes.s2.iterdir():
        with rasterio.open(path) as dataset:
            later, options = dataset.read() + 1000, {"gsd_m": dataset.res[0]}
        write_raster(path, later.astype("uint16"), **options)
    return scenes


@pytest.fixture(scope="module")
def web(scenes, tmp_path_factory):
    """A web server of COGs, and the items that name them, by their signed addresses."""
    folder, files = tmp_path_factory.mktemp("web"), {}
    with serving(files) as server:

        def put(path):
            copy(path, folder / path.name, driver="COG")
            files[f"/{path.name}"] = (folder / path.name).read_bytes()
            return {"path": path, "href": f"{server.address}/{path.name}?sig=SECRET"}

        bands = {key: asset | put(asset["path"]) for key, asset in s2_files(scenes).items()}
        with rasterio.open(scenes.s1) as dataset:
            power = 10 ** (dataset.read() / 10)
        radar = {}
        for index, name in enumerate(("vv", "vh")):
            path = write_raster(folder / "raw" / f"{name}.tif", power[index : index + 1])
            radar[name] = put(path) | {"raster:bands": [{"unit": "power"}]}

        def optical(identifier, cloud, **properties):
            stated = {"s2:processing_baseline": "05.10", "eo:cloud_cover": cloud}
            return make_item(bands, identifier=identifier, **stated, **properties)

        items = [optical("clear", 2.5), optical("later", 0, datetime="2021-01-01T00:00:00Z")]
        items += [optical(f"cloudy-{number}", 50 + number / 9) for number in range(NUM_CLOUDY)]
        items.append(make_item(radar, "s1", "radar"))
        for item in items:
            item["collection"] = "sentinel-1-rtc" if item["id"] == "radar" else "sentinel-2-l2a"
        yield server, items


@pytest.fixture(scope="module")
def stac_api(web, tmp_path_factory):
    """Address of rustac's STAC API of these items."""
    _, items = web
    folder = tmp_path_factory.mktemp("api")
    (folder / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    program = shutil.which("rustac", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    assert program, "rustac, of the development packages, is not installed"
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"
    command = [program, "serve", "--addr", place, "--create-collections", str(folder / "items.json")]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            for _ in range(100):
                try:
                    requests.get(f"http://{place}/", timeout=5).raise_for_status()
                    break
                except requests.RequestException:
                    assert process.poll() is None, (folder / "log").read_text()
                    time.sleep(0.1)
            yield f"http://{place}"
        finally:
            process.terminate()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_the_map_of_a_search_is_that_of_the_files(tmp_path, exported, scenes, web, stac_api):
    box, times = degrees(240, 120, 480), "2020-06-01/2020-06-30"
    found = made(
        "predict", exported, "--search", stac_api, "--bbox", box, "--datetime", times, "--out", tmp_path / "found.tif"
    )
    count = NUM_CLOUDY + 1
    assert f"s2: clear (2020-06-07, 2 % cloud); {count} of {count} items cover the place" in found.stderr
    assert "s1: radar (2020-06-07); 1 of 1 items cover the place" in found.stderr
    files = ["--s1", scenes.s1, "--s2", scenes.s2, "--s2-offset", "1000"]
    made("predict", exported, *files, "--bbox", box, "--out", tmp_path / "files.tif")
    assert abs(pixels(tmp_path / "found.tif").astype(int) - pixels(tmp_path / "files.tif")).max() <= 1
    links = json.loads((tmp_path / "found.json").read_text())["links"]
    assert [link["href"].rpartition("/")[2] for link in links] == ["radar", "clear"]
    server, _ = web
    assert all(asked for hits in server.hits.values() for method, _, asked in hits if method == "GET")


def test_time_and_collection_narrow_a_search(tmp_path, exported, stac_api):
    where = ["--search", stac_api, "--bbox", degrees(240, 120, 480)]
    done = made("embed", exported, *where, "--collection", "sentinel-2-l2a", "--out", tmp_path / "all.parquet")
    assert "s2: later (2021-01-01, 0 % cloud)" in done.stderr
    assert "s1: no items, goes on without" in done.stderr
    error = run("embed", exported, *where, "--datetime", "1999-01-01", "--out", tmp_path / "none.parquet").exception
    assert isinstance(error, InputError)
    assert "has no item of s1 or s2" in str(error)
    assert not (tmp_path / "none.parquet").exists()


def test_an_item_of_the_api_is_a_scene_by_its_address(tmp_path, exported, scenes, stac_api):
    address = f"{stac_api}/collections/sentinel-2-l2a/items/clear"
    made("predict", exported, "--s2", address, "--out", tmp_path / "item.tif")
    made("predict", exported, "--s2", scenes.s2, "--s2-offset", 1000, "--out", tmp_path / "files.tif")
    assert (pixels(tmp_path / "item.tif") == pixels(tmp_path / "files.tif")).all()
    error = run("predict", exported, "--s2", address.rpartition("/")[0], "--out", tmp_path / "map.tif").exception
    assert "items of s2: a scene is one" in str(error)
