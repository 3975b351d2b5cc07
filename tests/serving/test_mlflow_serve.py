"""MLflow's own scoring server, from an alias, with the request that docs/serving.md shows."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

DOCUMENT = Path(__file__).parents[2] / "docs" / "serving.md"


@pytest.fixture(scope="module")
def scoring(registry, processes):
    registry.point("challenger", "2")
    arguments = ("models", "serve", "-m", "models:/tiny@challenger", "--env-manager", "local")
    with processes.mlflow(registry.folder, *arguments, MLFLOW_TRACKING_URI=registry.uri) as running:
        yield running.client


def documented_request(pixels):
    """What the document's Python makes of a pair."""
    (code,) = re.findall(r"```python\n# the request of MLflow's server\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    scope = {"pair": pixels, "np": np, "json": json}
    exec(code, scope)
    return scope["body"]


def test_the_documented_request_is_answered_from_the_alias(scoring, registry, exported):
    pixels = exported.pixels(2)
    answer = scoring.post(
        "/invocations", content=documented_request(pixels), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 200, answer.text
    wanted = registry.sessions["2"].run(pixels)
    for name, found in answer.json()["predictions"].items():
        np.testing.assert_allclose(found, wanted[name], atol=1e-5)


def test_presence_leaves_a_modality_out(scoring, registry, exported):
    pixels = exported.pixels(2)
    body = json.loads(documented_request(pixels))
    body["inputs"]["presence"] = [[0, 1], [0, 1]]
    answer = scoring.post("/invocations", json=body)
    wanted = registry.sessions["2"].run({name: array for name, array in pixels.items() if name.startswith("s2")})
    np.testing.assert_allclose(answer.json()["predictions"]["probabilities"], wanted["probabilities"], atol=1e-5)


def test_our_service_takes_the_same_json_without_presence(start, exported):
    pixels = exported.pixels(1)
    body = json.loads(documented_request(pixels))
    del body["inputs"]["presence"]
    answer = start().post("/predict", json=body)
    wanted = exported.session.run(pixels)["probabilities"]
    np.testing.assert_allclose(answer.json()["probabilities"], wanted, atol=1e-6)


def test_a_wrong_shape_is_a_client_error(scoring):
    answer = scoring.post("/invocations", json={"inputs": {"s1_10m": [[1]]}})
    assert answer.status_code == 400
