import pytest

from fusmae.serving.app import Service


def test_health_names_the_version_and_that_a_file_is_not_watched(client, exported):
    answer = client.get("/health")
    assert answer.status_code == 200
    found = answer.json()
    assert found["is_ready"]
    assert found["model"]["name"] == "model.onnx"
    assert found["registry"] == {"status": "not watched", "error": ""}
    assert found["device"] == "cpu"


def test_health_is_not_ready_when_the_service_has_stopped(client, monkeypatch):
    monkeypatch.setattr(
        "fusmae.serving.app.Service.is_ready", property(lambda _: False, lambda _, value: None), raising=False
    )
    answer = client.get("/health")
    assert answer.status_code == 503
    assert not answer.json()["is_ready"]


def test_model_says_what_to_send(client, exported):
    found = client.get("/model").json()
    assert found["inputs"] == exported.metadata["inputs"]
    assert found["tile_m"] == 240
    assert found["classes"] == ["a", "b", "c"]
    assert found["task"] == {"kind": "multilabel", "classes": ["a", "b", "c"], "value": None}


def test_metrics_name_the_version_and_time_requests(client, exported):
    client.ask(exported.pixels(2))
    text = client.get("/metrics").text
    sha256 = client.get("/health").json()["model"]["sha256"]
    assert f'fusmae_model_info{{name="model.onnx",sha256="{sha256}",version=""}} 1.0' in text
    assert client.metric('fusmae_requests_total{route="/predict",status="200"}') == 1
    assert client.metric('fusmae_request_seconds_count{route="/predict"}') == 1
    assert client.metric("fusmae_request_tiles_sum") == 2
    assert client.metric("fusmae_model_seconds_count") == 1


def test_openapi_shows_what_each_route_takes_answers_and_refuses(client):
    document = client.get("/openapi.json").json()
    predict = document["paths"]["/predict"]["post"]
    assert set(predict["requestBody"]["content"]) == {"application/json", "application/x-npz"}
    assert {"200", "406", "408", "413", "415", "422", "503"} <= set(predict["responses"])
    form = document["paths"]["/predict/geotiff"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert set(form["schema"]["properties"]) == {"s1", "s2"}
    schemas = document["components"]["schemas"]
    answers = {"TileClasses": "probabilities", "ClassMaps": "map", "Values": "values", "Embeddings": "embeddings"}
    for name, array in answers.items():
        assert schemas[name]["properties"][array]["examples"]
    formats = predict["responses"]["200"]["content"]
    assert set(formats) == {"application/json", "application/x-npz"}
    kinds = formats["application/json"]["schema"]["discriminator"]["mapping"]
    assert set(kinds) == {"multilabel", "multiclass", "segmentation", "regression"}
    of_files = document["paths"]["/predict/geotiff"]["post"]["responses"]["200"]["content"]
    assert set(of_files) == {"application/json", "application/x-npz", "image/tiff"}
    assert [item["name"] for item in predict["parameters"]] == ["probabilities"]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("GET", "/predict", 405)])
def test_other_paths_and_methods_are_refused_in_the_same_form(client, method, path, status):
    answer = client.request(method, path)
    assert answer.status_code == status
    assert set(answer.json()) == {"error", "text"}


def test_a_failure_of_ours_is_500_without_its_inside(start, exported, monkeypatch):
    async def fail(*_):
        raise RuntimeError("secret path")

    client = start()
    monkeypatch.setattr(Service, "predict", fail)
    answer = client.ask(exported.pixels(1))
    assert answer.status_code == 500
    assert answer.json() == {"error": "ServiceError", "text": "The service failed; the reason is in its log."}
    assert client.metric('fusmae_requests_total{route="/predict",status="500"}') == 1
