"""`/embed` gives the graph's own embeddings, of a classifier and of an encoder; an encoder answers nothing else."""

import json

import numpy as np
import pytest

from tests.serving.test_tile import geotiff


@pytest.mark.parametrize("kind", ["exported", "exported_encoder"])
@pytest.mark.parametrize("modalities", [("s1", "s2"), ("s1",), ("s2",)])
def test_embeddings_are_those_of_the_graph_with_any_sensor_missing(start, request, kind, modalities):
    model = request.getfixturevalue(kind)
    pixels = {name: array for name, array in model.pixels(3).items() if name.partition("_")[0] in modalities}
    answer = start(model.path).ask_at("/embed", pixels)
    assert answer.status_code == 200
    expected = model.session.run(pixels)["embedding"]
    found = answer.json()
    np.testing.assert_allclose(found["embeddings"], expected, atol=1e-6)
    assert found["modalities"] == list(modalities)
    assert found["model"]["version"] == ""


def test_json_and_geotiffs_are_embedded_too(start, exported_encoder):
    client, pixels = start(exported_encoder.path), exported_encoder.pixels(1)
    s1 = {name: array for name, array in pixels.items() if name == "s1_10m"}
    expected = exported_encoder.session.run(s1)["embedding"]
    sent = client.post("/embed", json={"inputs": {"s1_10m": pixels["s1_10m"].tolist()}})
    np.testing.assert_allclose(sent.json()["embeddings"], expected, atol=1e-5)
    file = geotiff(dict(zip(("VV", "VH"), pixels["s1_10m"][0], strict=True)))
    one = client.post("/embed/geotiff", files=[("s1", ("s1.tif", file))])
    np.testing.assert_allclose(one.json()["embeddings"], expected, atol=1e-5)


def test_an_encoder_says_that_it_gives_no_probabilities(start, exported_encoder):
    client = start(exported_encoder.path)
    assert client.get("/model").json()["classes"] == []
    answer = client.ask(exported_encoder.pixels(1))
    assert answer.status_code == 422
    assert answer.json()["error"] == "ExportError"
    assert "is an encoder" in answer.json()["text"]


def test_arrays_that_are_refused_for_predict_are_refused_for_embed(client, exported):
    pixels = exported.pixels(1)
    pixels["s1_10m"][0, 0, 0, 0] = np.nan
    assert json.loads(client.ask_at("/embed", pixels).text)["error"] == "InputError"
