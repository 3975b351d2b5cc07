import json

import pytest

from fusmae.errors import RegistryError
from fusmae.files import file_sha256
from fusmae.release.registry import register_graph


@pytest.fixture
def store(tmp_path, monkeypatch):
    """An empty folder to work in: MLflow's SQLite store is made in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def register(exported, store, graph=None):
    card = store / "card.md"
    card.write_text("# card", encoding="utf-8")
    return register_graph(
        "tiny",
        graph or exported.path,
        inputs=exported.inputs,
        num_modalities=2,
        num_classes=3,
        extra_files=[card],
        tags={"fusmae.git_commit": "abc"},
        experiment="test",
        run_file=store / "run.json",
    )


def test_same_file_is_the_same_version_and_another_file_is_the_next(exported, store):
    import onnx
    from mlflow import MlflowClient

    first = register(exported, store)
    again = register(exported, store)
    assert (first.number, first.is_new) == ("1", True)
    assert (again.number, again.is_new) == ("1", False)
    graph = onnx.load(exported.path)
    graph.doc_string = "another"
    onnx.save(graph, store / "other.onnx")
    second = register(exported, store, store / "other.onnx")
    assert (second.number, second.is_new) == ("2", True)
    client = MlflowClient()
    assert str(client.get_model_version_by_alias("tiny", "challenger").version) == "2"
    tags = client.get_model_version("tiny", "1").tags
    assert tags["fusmae.onnx_sha256"] == file_sha256(exported.path)
    assert tags["fusmae.git_commit"] == "abc"


def test_model_goes_into_the_run_that_trained_it(exported, store):
    import mlflow
    from mlflow import MlflowClient

    from fusmae.mlflow_store import connect, open_experiment

    connect()
    with mlflow.start_run(experiment_id=open_experiment("test")) as run:
        pass
    (store / "run.json").write_text(json.dumps({"run_id": run.info.run_id}), encoding="utf-8")
    register(exported, store)
    assert MlflowClient().get_model_version("tiny", "1").run_id == run.info.run_id


def test_unreachable_server_is_named(exported, store, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryError, match=r"127\.0\.0\.1:9 does not answer"):
        register(exported, store)
