import json

import pytest

from fusmae.errors import RegistryError
from fusmae.files import file_sha256
from fusmae.release.export.onnx_file import write_graph
from fusmae.release.registry.versions import find_by_reference, register_graph
from tests.web import QuietHandler, web_server


@pytest.fixture
def store(tmp_path, monkeypatch):
    """An empty folder to work in: MLflow's SQLite store is made in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def register(exported, store, graph=None, description="**What** it is."):
    card = store / "card.md"
    card.write_text("# card", encoding="utf-8")
    return register_graph(
        "tiny",
        graph or exported.path,
        extra_files=[card],
        tags={"fusmae.git_commit": "abc"},
        experiment="test",
        run_file=store / "run.json",
        description=description,
    )


def test_same_file_is_the_same_version_and_another_file_is_the_next(exported, store):
    import onnx
    from mlflow import MlflowClient

    first = register(exported, store)
    again = register(exported, store)
    assert (first.number, again.number) == ("1", "1")
    graph = onnx.load(exported.path)
    graph.doc_string = "another"
    write_graph(graph, store / "other.onnx")
    second = register(exported, store, store / "other.onnx")
    assert second.number == "2"
    client = MlflowClient()
    assert str(client.get_model_version_by_alias("tiny", "challenger").version) == "2"
    tags = client.get_model_version("tiny", "1").tags
    assert tags["fusmae.onnx_sha256"] == file_sha256(exported.path)
    assert tags["fusmae.git_commit"] == "abc"


def test_mlflow_s_pages_say_what_model_and_version_are_and_keep_what_somebody_wrote(exported, store):
    from mlflow import MlflowClient

    register(exported, store)
    client = MlflowClient()
    assert client.get_model_version("tiny", "1").description == "**What** it is."
    assert "`fusmae ledger tiny`" in client.get_registered_model("tiny").description
    client.update_model_version("tiny", "1", description="ours")
    client.update_registered_model("tiny", description="ours too")
    register(exported, store)
    assert client.get_model_version("tiny", "1").description == "ours"
    assert client.get_registered_model("tiny").description == "ours too"


@pytest.fixture
def trained(store):
    """The id of a run that ended long ago, which run.json names."""
    from mlflow import MlflowClient

    from fusmae.runs.mlflow_store import connect, open_experiment

    connect()
    run_id = MlflowClient().create_run(open_experiment("test"), start_time=1_000_000).info.run_id
    MlflowClient().set_terminated(run_id, end_time=1_090_000)
    (store / "run.json").write_text(json.dumps({"run_id": run_id}), encoding="utf-8")
    return run_id


def test_model_goes_into_the_run_that_trained_it(exported, store, trained):
    from mlflow import MlflowClient

    register(exported, store)
    assert MlflowClient().get_model_version("tiny", "1").run_id == trained


def test_registering_that_fails_leaves_the_training_run_as_it_ended(exported, store, trained, monkeypatch):
    import mlflow
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    def refuse(*_, **__):
        raise MlflowException("no room")

    monkeypatch.setattr(mlflow.onnx, "log_model", refuse)
    with pytest.raises(RegistryError, match="refused to register tiny: no room"):
        register(exported, store)
    info = MlflowClient().get_run(trained).info
    assert (info.status, info.end_time) == ("FINISHED", 1_090_000)


def test_the_signature_names_all_that_a_version_answers(exported, store):
    import mlflow
    import numpy as np

    register(exported, store)
    model = mlflow.pyfunc.load_model("models:/tiny/1")
    arrays = exported.pixels(2) | {"presence": np.ones((2, 2), np.float32)}
    answer = model.predict({name: array.astype(np.float32) for name, array in arrays.items()})
    stated = {item.name: item.shape for item in model.metadata.get_output_schema().inputs}
    assert stated == {name: (-1, *array.shape[1:]) for name, array in answer.items()}
    assert list(stated) == ["logits", "probabilities", "embedding"]


def test_a_graph_without_an_embedding_promises_none(exported, store):
    import mlflow
    import onnx

    graph = onnx.load(exported.path)
    (output,) = (item for item in graph.graph.output if item.name == "embedding")
    graph.graph.output.remove(output)
    write_graph(graph, store / "older.onnx")
    register(exported, store, store / "older.onnx")
    outputs = mlflow.pyfunc.load_model("models:/tiny/1").metadata.get_output_schema().input_names()
    assert outputs == ["logits", "probabilities"]


@pytest.fixture
def refusing(monkeypatch):
    """A server that shows its experiments and refuses everything else; gives the way to say how."""
    said = {}

    class Handler(QuietHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            code, body = (200, {}) if "experiments/search" in self.path else said["refusal"]
            self.send_response(code)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def do_POST(self):
            self.do_GET()

    with web_server(Handler) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        yield lambda code, error, message: said.update(refusal=(code, {"error_code": error, "message": message}))


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (500, "INTERNAL_ERROR"),
        (403, "PERMISSION_DENIED"),
        (400, "INVALID_PARAMETER_VALUE"),
        (404, "ENDPOINT_NOT_FOUND"),
    ],
)
@pytest.mark.parametrize("named", [{"alias": "champion"}, {"number": "3"}])
def test_a_server_that_refuses_is_not_one_without_the_version(store, refusing, code, error, named):
    refusing(code, error, "the disk is full")
    with pytest.raises(RegistryError, match=r"does not give tiny[@/](champion|3): .*(the disk is full|500)") as refused:
        find_by_reference("tiny", **named)
    assert "has no" not in str(refused.value)


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        (404, "RESOURCE_DOES_NOT_EXIST", "Registered Model with name=tiny not found"),
        (400, "INVALID_PARAMETER_VALUE", "Registered model alias champion not found."),
    ],
)
def test_a_server_without_the_version_says_so(store, refusing, code, error, message):
    refusing(code, error, message)
    with pytest.raises(RegistryError, match="has no tiny@champion"):
        find_by_reference("tiny", alias="champion")


def test_unreachable_server_is_named(exported, store, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryError, match=r"127\.0\.0\.1:9 does not answer"):
        register(exported, store)
