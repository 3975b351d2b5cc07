"""A modality is data: parameters and rows of units bring two new ones through the pipeline, to maps and the service.

Elevation has metres, float32, on a grid of its own; snow has a unit that this file makes up: whole centimetres.
"""

import json
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
import yaml
from distributed import LocalCluster
from fastapi.testclient import TestClient
from rasterio.transform import from_origin
from typer.testing import CliRunner

from fusmae.cli import app
from fusmae.errors import InputError
from fusmae.inference.session import Session
from fusmae.serving.app import make_app
from fusmae.serving.limits import Limits
from fusmae.serving.loaded import find_model
from fusmae.units import UNITS, Unit
from tests.config.test_params import composed

TILE_M = 240
MADE_UP = {
    "cm": Unit(
        noun="centimetres",
        quantity="depth",
        limits=(0, 2000),
        plausible=(0, 2000),
        stored="uint16",
        histogram=(0, 500, 10),
        shown=(0, 200),
    )
}
MODALITIES = {
    "s1": {"units": "dB", "groups": [{"gsd_m": 10, "bands": ["VV", "VH"]}]},
    "s2": {"units": "DN", "groups": [{"gsd_m": 10, "bands": ["B02", "B04"]}, {"gsd_m": 20, "bands": ["B11"]}]},
    "dem": {"units": "m", "groups": [{"gsd_m": 30, "bands": ["height"]}]},
    "snow": {"units": "cm", "groups": [{"gsd_m": 10, "bands": ["depth"]}]},
}
FILES = {
    "s1": ("s1/{}.tif", "float32", 10, ["VV", "VH"]),
    "s2": ("s2/{}.tif", "uint16", 10, ["B02", "B04"]),
    "s2_20m": ("s2/{}_20m.tif", "uint16", 20, ["B11"]),
    "dem": ("dem/{}.tif", "float32", 30, ["height"]),
    "snow": ("snow/{}.tif", "uint16", 10, ["depth"]),
}
NUM_PAIRS = 20
TINY = {"patch_px": 12, "dim": 24, "depth": 2, "num_heads": 2, "decoder_dim": 24, "decoder_depth": 1}
STAGES = """
fetch --downloads data/downloads --raw data/raw --receipt data/raw.json
index --raw data/raw --out data/index.parquet
shard --raw data/raw --receipt data/raw.json --index data/index.parquet --out data/shards
  --statistics data/statistics.json
examine --raw data/raw --index data/index.parquet --shards data/shards --out reports/examine --verdict data/verdict.json
pretrain --shards data/shards --verdict data/verdict.json --statistics data/statistics.json --out models/pretrain
  --pictures reports/pictures --run-file reports/pretrain.json
probe --weights models/pretrain/pretrained --shards data/shards --out models/probe/pretrained
  --run-file reports/runs/probe-pretrained.json
finetune --weights models/pretrain/pretrained --shards data/shards --out models/finetune/pretrained
  --run-file reports/runs/finetune-pretrained.json
evaluate --models models --shards data/shards --index data/index.parquet --out reports/evaluate --runs reports/runs
export --weights models/finetune/pretrained --shards data/shards --out models/export
variants --exported models/export --shards data/shards --index data/index.parquet --out models/variants
  --report reports/variants
reference --exported models/export --shards data/shards --index data/index.parquet --out models/reference.npz
"""


def pixels_of(file, number, height_m=TILE_M, width_m=TILE_M):
    """Pixels `[C, h, w]` of a file of one pair, or of a scene."""
    _, dtype, gsd_m, names = FILES[file]
    random = np.random.default_rng([number, sorted(FILES).index(file)])
    shape = (len(names), height_m // gsd_m, width_m // gsd_m)
    if file == "s1":
        return random.normal(-12, 3, shape).astype(dtype)
    if file == "dem":
        return (random.normal(0, 8, shape) + 40 * number - 100).astype(dtype)
    return random.integers(*((0, 300) if file == "snow" else (200, 3000)), shape).astype(dtype)


def write(file, path, number, left=400_000, **size):
    pixels = pixels_of(file, number, **size)
    _, dtype, gsd_m, names = FILES[file]
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"crs": "EPSG:32635", "transform": from_origin(left, 6_700_000, gsd_m, gsd_m), "dtype": dtype}
    count, height, width = pixels.shape
    with rasterio.open(path, "w", driver="GTiff", count=count, height=height, width=width, **profile) as dataset:
        dataset.write(pixels)
        dataset.descriptions = names
    return path


def run(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A project whose parameters have the two modalities, after all stages from `fetch` to `reference`."""
    folder = tmp_path_factory.mktemp("modality")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, unit in MADE_UP.items():
            patch.setitem(UNITS, name, unit)
        rows = ["key,labels,split,place"]
        for number in range(NUM_PAIRS):
            split = "train" if number < 12 else "validation" if number < 16 else "test"
            rows.append(f"p{number},{('water', 'land', 'water|land')[number % 3]},{split},place{number}")
            for file, (path, *_) in FILES.items():
                write(file, folder / "data/raw/folder" / path.format(f"p{number}"), number, 400_000 + 20_000 * number)
        (folder / "data/raw/folder/pairs.csv").write_text("\n".join(rows) + "\n")
        # The cluster's workers are threads of this process, which know the made-up unit.
        with LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster:
            params = composed("data=folder")
            params["data"] |= {"tile_m": TILE_M, "modalities": MODALITIES}
            params["model"] |= TINY | {"decoder_num_heads": 2, "mask_ratio": dict.fromkeys(MODALITIES, 0.5)}
            params["gate"]["min_by_setting"] = {"+".join(MODALITIES): 0.1}
            params["pretrain"] |= {"epochs": 1, "warmup_epochs": 0, "num_pictures": 1}
            params["finetune"] |= {"epochs": 1, "warmup_epochs": 0}
            params["evaluate"]["bootstrap_resamples"] = 20
            params["variants"] |= {"rounds": 2, "bootstrap_resamples": 10, "calibration_pairs": 4}
            params["runtime"]["scheduler"] = cluster.scheduler_address
            (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
            for command in STAGES.replace("\n  ", " ").strip().splitlines():
                run(*command.split())
        yield SimpleNamespace(folder=folder, model=folder / "models/export/model.onnx")


def test_all_stages_take_the_new_modalities(workspace):
    folder = workspace.folder
    statistics = json.loads((folder / "data/statistics.json").read_text())
    heights = np.stack([pixels_of("dem", number) for number in range(12)])
    assert statistics["dem"]["height"]["mean"] == pytest.approx(heights.mean(), rel=1e-5)
    assert json.loads((folder / "data/verdict.json").read_text())["is_fit"]
    report = json.loads((folder / "reports/examine/report.json").read_text())
    assert {modality: set(bands) for modality, bands in report["bands"].items()}["dem"] == {"height"}
    assert report["bands"]["snow"]["depth"]["units"] == "cm"
    assert list((folder / "reports/pictures").glob("*.png"))
    inputs = {item.name: (item.units, item.side_px) for item in Session(workspace.model).inputs}
    assert inputs["dem_30m"] == ("m", 8)
    assert inputs["snow_10m"] == ("cm", 24)
    rows = (folder / "reports/evaluate/table.md").read_text()
    for protocol in ("knn", "probe", "finetune"):
        for setting in ("+".join(MODALITIES), *MODALITIES):
            assert f"| {protocol} | pretrained | {setting} |" in rows
    measured = json.loads((folder / "reports/variants/report.json").read_text())
    assert set(measured["variants"]) == {"fp32", "fp16", "int8"}


def test_shards_keep_metres_as_they_are(workspace):
    from fusmae.data.shards import ShardReader

    pixels = ShardReader(workspace.folder / "data/shards", "test").read([0])
    np.testing.assert_array_equal(pixels["dem_30m"][0], pixels_of("dem", 16))
    np.testing.assert_array_equal(pixels["snow_10m"][0], pixels_of("snow", 16))


@pytest.fixture(scope="module")
def scenes(workspace):
    """Paths of whole scenes by modality."""
    size = {"height_m": 480, "width_m": 720}
    for file, (path, *_) in FILES.items():
        write(file, workspace.folder / "scenes" / path.format("scene"), 3, **size)
    return {modality: workspace.folder / "scenes" / modality for modality in MODALITIES}


def options_of(scenes, *modalities):
    return [word for modality in modalities for word in ("--scene", f"{modality}={scenes[modality]}")]


@pytest.mark.parametrize("given", [("s1", "s2", "dem", "snow"), ("s1", "s2"), ("dem",)])
def test_a_map_is_made_with_and_without_them(workspace, scenes, tmp_path, given):
    done = run("predict", "--model", workspace.model, "--out", tmp_path / "map.tif", *options_of(scenes, *given))
    assert f"wrote {tmp_path / 'map.tif'}" in done.output
    with rasterio.open(tmp_path / "map.tif") as dataset:
        assert (dataset.read() > 0).any()


def test_a_map_depends_on_the_elevation(workspace, scenes, tmp_path):
    maps = []
    for given in (("s2",), ("s2", "dem")):
        run("predict", "--model", workspace.model, "--out", tmp_path / "map.tif", *options_of(scenes, *given))
        with rasterio.open(tmp_path / "map.tif") as dataset:
            maps.append(dataset.read())
    assert (maps[0] != maps[1]).any()


def test_a_scene_without_a_band_name_says_which_option_names_it(workspace, scenes, tmp_path):
    path = write("dem", tmp_path / "x.tif", 3, height_m=480, width_m=720)
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = [""]
    command = ["predict", "--model", workspace.model, "--out", tmp_path / "map.tif", "--scene", f"dem={path}"]
    with pytest.raises(InputError, match=r"(?s)lacks band height.*--bands 'dem=\?'"):
        run(*command)
    assert "wrote" in run(*command, "--bands", "dem=height").output


@pytest.mark.parametrize(
    ("option", "value", "quantity"), [("units", "power", "backscatter"), ("offset", "0", "reflect")]
)
def test_options_of_another_quantity_are_refused(workspace, scenes, tmp_path, option, value, quantity):
    given = [*options_of(scenes, "dem"), f"--{option}", f"dem={value}"]
    with pytest.raises(InputError, match=rf"(?s)--{option} is for {quantity}.*dem in metres"):
        run("predict", "--model", workspace.model, "--out", tmp_path / "map.tif", *given)


def test_pixels_in_another_unit_are_refused(workspace, tmp_path):
    path = write("snow", tmp_path / "snow.tif", 3, height_m=480, width_m=720)
    with rasterio.open(path, "r+") as dataset:
        dataset.write(dataset.read() * 40)
    with pytest.raises(InputError, match=r"(?s)snow scene.*centimetres"):
        run("predict", "--model", workspace.model, "--out", tmp_path / "map.tif", "--scene", f"snow={path}")


def test_tiles_are_embedded_and_compared_with_the_training_data(workspace, scenes, tmp_path):
    options = options_of(scenes, *MODALITIES)
    assert "6 tiles" in run("embed", "--model", workspace.model, "--out", tmp_path / "e.parquet", *options).output
    reference = ["--reference", workspace.folder / "models/reference.npz"]
    done = run("drift", "--model", workspace.model, "--out", tmp_path / "drift", *reference, *options)
    assert done.exit_code in (0, 3)
    assert "height" in (tmp_path / "drift/drift.html").read_text()


@pytest.fixture(scope="module")
def client(workspace):
    limits = Limits(max_batch=4, max_requests=8, max_body_mb=2.0, max_answer_mb=8.0, poll_s=60.0, stop_s=5)
    with TestClient(make_app(str(workspace.model), find_model(str(workspace.model)), limits)) as client:
        yield client


@pytest.mark.parametrize("given", [("s1", "s2", "dem", "snow"), ("s1",), ("dem", "snow")])
def test_the_service_answers_with_and_without_them(client, given):
    arrays = {
        f"{file.partition('_')[0]}_{gsd_m}m": pixels_of(file, 5)[None]
        for file, (_, _, gsd_m, _) in FILES.items()
        if file.partition("_")[0] in given
    }
    np.savez(body := BytesIO(), **arrays)
    answer = client.post("/predict", content=body.getvalue(), headers={"Content-Type": "application/x-npz"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["modalities"] == [name for name in MODALITIES if name in given]


def test_the_service_documents_a_field_for_each_modality(client):
    form = client.get("/openapi.json").json()["paths"]["/predict/geotiff"]["post"]["requestBody"]["content"]
    assert list(form["multipart/form-data"]["schema"]["properties"]) == list(MODALITIES)


@pytest.mark.parametrize("given", [("s1", "s2", "s2_20m", "dem", "snow"), ("dem",)])
def test_the_service_reads_geotiffs_of_them(client, workspace, given):
    raw = workspace.folder / "data/raw/folder"
    files = [
        (file.partition("_")[0], (f"{file}.tif", (raw / FILES[file][0].format("p5")).read_bytes())) for file in given
    ]
    answer = client.post("/predict/geotiff", files=files)
    assert answer.status_code == 200, answer.text
    assert set(answer.json()["modalities"]) == {file.partition("_")[0] for file in given}


def test_the_service_refuses_pixels_in_another_unit(client):
    np.savez(body := BytesIO(), snow_10m=pixels_of("snow", 5)[None] * 40)
    answer = client.post("/predict", content=body.getvalue(), headers={"Content-Type": "application/x-npz"})
    assert answer.status_code == 422
    assert "centimetres" in answer.text
