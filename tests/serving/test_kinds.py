"""Models of every kind answer arrays and GeoTIFFs, as JSON, `.npz` and GeoTIFF."""

import io
import json
import socket
from contextlib import closing

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from fusmae.inference.session import Session
from fusmae.release.registry.model_file import model_file
from fusmae.serving import limits as limits_module
from fusmae.serving.loaded import load_model
from tests.serving.graphs import CLASSES, TASKS
from tests.serving.test_tile import LEFT, TOP, geotiff

NPZ = "application/x-npz"
HOLE = np.zeros((24, 24), bool)
HOLE[:4, :6] = True


def tiles(count=2, seed=0):
    """S1 whose first tile has VV in the upper half and VH in the lower one as the largest number, left of -12 dB."""
    s1 = np.random.default_rng(seed).uniform(-11, -10, (count, 2, 24, 24)).astype(np.float32)
    s1[:, 1, :12] -= 6
    s1[:, 0, 12:] -= 6
    s1[:, :, :, 18:] -= 12
    return {"s1_10m": s1}


EXPECTED = np.zeros((24, 24), np.uint8)
EXPECTED[12:] = 1
EXPECTED[:, 18:] = 2


def upload(pixels, **place):
    s1 = dict(zip(("VV", "VH"), pixels["s1_10m"][0], strict=True))
    return [("s1", ("s1.tif", geotiff(s1, **place)))]


def opened(answer):
    """The arrays of an `.npz`, and the rest of the answer."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == NPZ
    arrays = dict(np.load(io.BytesIO(answer.content), allow_pickle=False))
    return arrays, json.loads(str(arrays.pop("answer")))


def refusal(answer, status=422):
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error", "text"}
    return answer.json()["text"]


@pytest.mark.parametrize("kind", TASKS)
def test_model_describes_the_task(start, graphs, kind):
    found = start(graphs[kind]).get("/model").json()
    assert found["task"] == TASKS[kind].model_dump(mode="json")
    assert found["classes"] == list(TASKS[kind].classes)


def test_a_multiclass_model_answers_probabilities_that_sum_to_one(start, graphs):
    found = start(graphs["multiclass"]).ask(tiles(3)).json()
    assert (found["kind"], found["classes"]) == ("multiclass", list(CLASSES))
    np.testing.assert_allclose(
        found["probabilities"], Session(graphs["multiclass"]).run(tiles(3))["probabilities"], atol=1e-6
    )
    np.testing.assert_allclose(np.sum(found["probabilities"], axis=1), 1, atol=1e-6)


def test_a_segmentation_answers_positions_in_classes_for_each_pixel(start, graphs):
    found = start(graphs["segmentation"]).ask(tiles(2)).json()
    assert (found["kind"], found["classes"], found["modalities"]) == ("segmentation", list(CLASSES), ["s1"])
    assert found["map"] == [EXPECTED.tolist()] * 2
    assert "probabilities" not in found
    assert found["model"]["name"] == "segmentation.onnx"


def test_probabilities_of_a_map_come_on_request(start, graphs):
    client, pixels = start(graphs["segmentation"]), tiles(2)
    expected = Session(graphs["segmentation"]).run(pixels)["map"]
    as_json = client.ask_at("/predict?probabilities=true", pixels).json()
    np.testing.assert_allclose(as_json["probabilities"], expected, atol=1e-6)
    assert as_json["map"] == [EXPECTED.tolist()] * 2
    arrays, _ = opened(client.ask_at("/predict?probabilities=true", pixels, Accept=NPZ))
    np.testing.assert_array_equal(arrays["probabilities"], expected)


def test_a_regression_answers_a_value_per_tile_with_its_unit(start, graphs):
    pixels = tiles(3)
    found = start(graphs["value"]).ask(pixels).json()
    assert (found["kind"], found["value"]) == ("regression", {"name": "biomass", "unit": "t/ha"})
    np.testing.assert_allclose(found["values"], pixels["s1_10m"][:, 0].mean((1, 2)) + 40, rtol=1e-5)


def test_a_regression_per_pixel_answers_a_map_of_values(start, graphs):
    pixels = tiles(2)
    found = start(graphs["value_map"]).ask(pixels).json()
    np.testing.assert_allclose(found["values"], pixels["s1_10m"][:, 0] + 40, rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "name", "dtype", "shape"),
    [
        ("multiclass", "probabilities", "float32", (2, 3)),
        ("segmentation", "map", "uint8", (2, 24, 24)),
        ("value_map", "values", "float32", (2, 24, 24)),
        ("value", "values", "float32", (2,)),
    ],
)
def test_npz_holds_the_arrays_and_the_rest_of_the_same_answer(start, graphs, kind, name, dtype, shape):
    client = start(graphs[kind])
    arrays, rest = opened(client.ask_at("/predict", tiles(2), Accept=NPZ))
    assert {key: (str(array.dtype), array.shape) for key, array in arrays.items()} == {name: (dtype, shape)}
    as_json = client.ask(tiles(2)).json()
    np.testing.assert_allclose(arrays[name], as_json.pop(name), rtol=1e-6)
    assert rest == as_json


def test_embeddings_come_as_npz_too(start, graphs):
    arrays, rest = opened(start(graphs["segmentation"]).ask_at("/embed", tiles(2), Accept=NPZ))
    np.testing.assert_allclose(arrays["embeddings"], tiles(2)["s1_10m"].mean((2, 3)), rtol=1e-5)
    assert rest["modalities"] == ["s1"]


def test_geotiffs_are_answered_by_a_geotiff_of_class_numbers_on_the_tile_s_grid(start, graphs):
    answer = start(graphs["segmentation"]).post("/predict/geotiff", files=upload(tiles(1)))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/tiff"
    with rasterio.open(io.BytesIO(answer.content)) as dataset:
        assert dataset.crs.to_epsg() == 32633
        assert dataset.transform == Affine(10, 0, LEFT, 0, -10, TOP)
        assert (dataset.dtypes, dataset.nodata, dataset.colorinterp) == (("uint8",), 0, (ColorInterp.palette,))
        np.testing.assert_array_equal(dataset.read(1), EXPECTED + 1)
        colours = dataset.colormap(1)
        assert len({colours[number] for number in range(4)}) == 4
        assert colours[0][3] == 0
        names = {key: name for key, name in dataset.tags().items() if key.startswith("CLASS_")}
        assert names == {"CLASS_1": "vv", "CLASS_2": "vh", "CLASS_3": "neither"}
        rest = json.loads(dataset.tags()["ANSWER"])
    assert rest["model"]["name"] == "segmentation.onnx"
    assert rest["modalities"] == ["s1"]


def test_probabilities_as_a_geotiff_are_one_band_per_class(start, graphs):
    answer = start(graphs["segmentation"]).post("/predict/geotiff?probabilities=true", files=upload(tiles(1)))
    with rasterio.open(io.BytesIO(answer.content)) as dataset:
        assert dataset.descriptions == CLASSES
        found = dataset.read() * np.array(dataset.scales)[:, None, None]
        np.testing.assert_allclose(found, Session(graphs["segmentation"]).run(tiles(1))["map"][0], atol=0.002)


def test_values_as_a_geotiff_have_their_name_and_unit(start, graphs):
    answer = start(graphs["value_map"]).post("/predict/geotiff", files=upload(tiles(1)))
    with rasterio.open(io.BytesIO(answer.content)) as dataset:
        assert (dataset.descriptions, dataset.units, dataset.dtypes) == (("biomass",), ("t/ha",), ("float32",))
        assert dataset.transform == Affine(10, 0, LEFT, 0, -10, TOP)
        np.testing.assert_allclose(dataset.read(1), tiles(1)["s1_10m"][0, 0] + 40, rtol=1e-6)


def test_a_tile_that_is_stored_south_up_is_answered_north_up_where_it_lies(start, graphs):
    turned = {"s1_10m": tiles(1)["s1_10m"][:, :, ::-1]}
    files = upload(turned, transform=Affine(10, 0, LEFT, 0, 10, TOP - 240))
    answer = start(graphs["segmentation"]).post("/predict/geotiff", files=files)
    with rasterio.open(io.BytesIO(answer.content)) as dataset:
        assert dataset.transform == Affine(10, 0, LEFT, 0, -10, TOP)
        np.testing.assert_array_equal(dataset.read(1), EXPECTED + 1)


def test_pixels_without_data_have_no_class_and_no_value(start, graphs):
    pixels = tiles(1)
    pixels["s1_10m"][:, :, HOLE] = np.nan
    client = start(graphs["segmentation"])
    with rasterio.open(io.BytesIO(client.post("/predict/geotiff", files=upload(pixels)).content)) as dataset:
        np.testing.assert_array_equal(dataset.read(1), np.where(HOLE, 0, EXPECTED + 1))
    as_json = client.post("/predict/geotiff", files=upload(pixels), headers={"Accept": "application/json"}).json()
    np.testing.assert_array_equal(as_json["map"], np.where(HOLE, 255, EXPECTED)[None])
    assert as_json["warnings"] == ["s1: 4.2% of the pixels have no data: filled with the tile's means"]
    values = start(graphs["value_map"])
    as_json = values.post("/predict/geotiff", files=upload(pixels), headers={"Accept": "application/json"}).json()
    assert all((value is None) == hole for value, hole in zip(np.ravel(as_json["values"]), HOLE.ravel(), strict=True))
    with rasterio.open(io.BytesIO(values.post("/predict/geotiff", files=upload(pixels)).content)) as dataset:
        np.testing.assert_array_equal(np.isnan(dataset.read(1)), HOLE)


def test_a_pixel_that_only_one_of_two_sensors_lacks_has_a_class(start, graphs, exported):
    pixels = tiles(1)
    pixels["s1_10m"][:, :, HOLE] = np.nan
    s2 = exported.pixels(1)
    bands = {"B02": s2["s2_10m"][0, 0], "B03": s2["s2_10m"][0, 1], "B05": s2["s2_20m"][0, 0].repeat(2, 0).repeat(2, 1)}
    files = [*upload(pixels), ("s2", ("s2.tif", geotiff(bands)))]
    answer = start(graphs["segmentation"]).post("/predict/geotiff", files=files)
    with rasterio.open(io.BytesIO(answer.content)) as dataset:
        assert dataset.read(1).all()


@pytest.mark.parametrize("kind", ["multiclass", "value"])
def test_one_answer_per_tile_is_json_for_geotiffs_too(start, graphs, kind):
    client = start(graphs[kind])
    answer = client.post("/predict/geotiff", files=upload(tiles(1)))
    assert answer.headers["content-type"] == "application/json"
    text = refusal(client.post("/predict/geotiff", files=upload(tiles(1)), headers={"Accept": "image/tiff"}), 406)
    assert text.startswith("Accept is image/tiff; this answer can be application/json, application/x-npz.")
    assert "Only a model of maps or of values per pixel answers GeoTIFFs" in text


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", "image/tiff"),
        ("image/*", "image/tiff"),
        ("application/*", "application/json"),
        ("application/json, */*;q=0.1", "application/json"),
        ("image/tiff;q=0.5, application/x-npz;q=0.8", NPZ),
        ("image/tiff; application=geotiff", "image/tiff"),
        ("image/tiff;q=0, */*", "application/json"),
        ("text/html,application/xml;q=0.9,*/*;q=0.8", "image/tiff"),
    ],
)
def test_accept_chooses_the_format(start, graphs, accept, expected):
    answer = start(graphs["segmentation"]).post("/predict/geotiff", files=upload(tiles(1)), headers={"Accept": accept})
    assert answer.headers["content-type"] == expected


@pytest.mark.parametrize("accept", ["text/html", "image/png", "application/json;q=0", "application/json;q=x", ";;,"])
def test_a_format_that_there_is_not_is_refused(start, graphs, accept):
    text = refusal(start(graphs["segmentation"]).ask_at("/predict", tiles(1), Accept=accept), 406)
    assert f"Accept is {accept}; this answer can be application/json, application/x-npz" in text


def test_queries_that_are_not_known_or_fit_no_model_are_refused(start, graphs):
    maps, values = start(graphs["segmentation"]), start(graphs["value_map"])
    for query in ("probabilites=true", "probabilities=maybe"):
        text = refusal(maps.ask_at(f"/predict?{query}", tiles(1)))
        assert query in text
        assert "probabilities=true, probabilities=false" in text
    assert "biomass (t/ha): a value has no probabilities" in refusal(
        values.ask_at("/predict?probabilities=1", tiles(1))
    )


def test_an_answer_that_would_be_too_large_is_refused_before_it_is_computed(start, graphs, monkeypatch):
    client, pixels = start(graphs["segmentation"], max_answer_mb=0.05), tiles(4)
    assert client.ask(pixels).status_code == 200
    monkeypatch.setattr(Session, "run", lambda *_, **__: pytest.fail("it was computed"))
    text = refusal(client.ask_at("/predict?probabilities=true", pixels))
    assert "4 tiles of up to 0.0179 MB each as application/json" in text
    assert "ask for at most 2 at once, or leave out the probabilities, or ask for Accept: application/x-npz" in text
    assert "at most 0.05 MB" in refusal(client.ask(tiles(8)))


@pytest.mark.parametrize("kind", ["segmentation", "value_map", "multiclass", "value"])
@pytest.mark.parametrize("accept", ["application/json", NPZ])
def test_an_answer_is_no_larger_than_what_is_reckoned(start, graphs, kind, accept):
    client = start(graphs[kind], max_answer_mb=1e-9)
    query = "?probabilities=true" if kind == "segmentation" else ""
    reckoned = float(refusal(client.ask_at(f"/predict{query}", tiles(8), Accept=accept)).split("up to ")[1].split()[0])
    answer = start(graphs[kind]).ask_at(f"/predict{query}", tiles(8), Accept=accept)
    rest = 4000  # names, classes, headers
    assert len(answer.content) <= 8 * reckoned * 1e6 + rest


def test_a_client_that_does_not_read_keeps_its_place_until_its_time_is_over(start, graphs, npz, processes, monkeypatch):
    monkeypatch.setattr(limits_module, "_PIECE_BYTES", 1000)
    monkeypatch.setattr(limits_module, "_ANSWER_S", 1.0)
    client = start(graphs["segmentation"], max_batch=500, max_body_mb=20, max_answer_mb=20)
    body = npz(tiles(400))
    with closing(socket.socket()) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((client.base_url.host, client.base_url.port))
        head = f"POST /predict?probabilities=true HTTP/1.1\r\nHost: x\r\nContent-Type: {NPZ}\r\n"
        connection.sendall(f"{head}Accept: {NPZ}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        processes.wait_for(lambda: client.metric("fusmae_model_seconds_count") == 1, "the answer")
        assert client.metric("fusmae_requests_in_progress") == 1
        processes.wait_for(lambda: client.metric("fusmae_requests_in_progress") == 0, "the end of its time")
    assert client.ask(tiles(1)).status_code == 200


def test_large_answers_arrive_whole(start, graphs, monkeypatch):
    monkeypatch.setattr(limits_module, "_PIECE_BYTES", 1000)
    client = start(graphs["segmentation"])
    arrays, _ = opened(client.ask_at("/predict?probabilities=true", tiles(8), Accept=NPZ))
    np.testing.assert_array_equal(arrays["probabilities"], Session(graphs["segmentation"]).run(tiles(8))["map"])


def test_metrics_count_dense_requests_like_others(start, graphs):
    client = start(graphs["segmentation"])
    client.ask(tiles(3))
    client.post("/predict/geotiff", files=upload(tiles(1)))
    client.ask_at("/predict", tiles(1), Accept="text/html")
    assert client.metric("fusmae_request_tiles_sum") == 4
    assert client.metric('fusmae_requests_total{route="/predict/geotiff",status="200"}') == 1
    assert client.metric('fusmae_requests_total{route="/predict",status="406"}') == 1


def test_the_alias_may_move_to_a_model_of_another_kind(monkeypatch, start, graphs, registry, processes):
    monkeypatch.chdir(registry.folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.uri)
    numbers = {kind: registry.register("kinds", graphs[kind]) for kind in ("segmentation", "value", "multiclass")}
    registry.point("champion", numbers["segmentation"], name="kinds")
    client = start("kinds@champion")
    fields = {"segmentation": "map", "value": "values", "multiclass": "probabilities"}
    for kind, number in numbers.items():
        registry.point("champion", number, name="kinds")
        processes.wait_for(lambda number=number: client.get("/health").json()["model"]["version"] == number, kind)
        found = client.ask(tiles(1)).json()
        assert found["model"]["version"] == number
        assert fields[kind] in found
        assert client.get("/model").json()["task"]["kind"] == TASKS[kind].kind


def test_a_version_of_every_kind_runs_once_before_it_answers(graphs):
    for kind, path in graphs.items():
        assert load_model(model_file(str(path))).description.task == TASKS[kind]
