"""The service as a process over a real SQLite registry whose alias moves."""

import threading

import numpy as np
import onnx
import pytest

from fusmae.serving.loaded import Watcher, find_model
from fusmae.serving.metrics import Metrics


class Asking(threading.Thread):
    """One client that asks until it is told to stop, and keeps every answer."""

    def __init__(self, client, pixels):
        super().__init__()
        self._client = client
        self._pixels = pixels
        self.stopped = threading.Event()
        self.answers = []

    def run(self):
        while not self.stopped.is_set():
            answer = self._client.ask(self._pixels)
            self.answers.append((answer.status_code, answer.json()))

    @property
    def versions(self):
        return [answer["model"]["version"] for _, answer in self.answers]


def version_of(client):
    return client.get("/health").json()["model"]["version"]


def test_the_alias_moves_under_load_and_no_request_fails(registry, processes, exported):
    registry.point("champion", "1")
    with processes.served("tiny@champion", registry.folder, MLFLOW_TRACKING_URI=registry.uri) as running:
        client = running.client
        asking = [Asking(client, exported.pixels(1 + number, seed=number)) for number in range(4)]
        for thread in asking:
            thread.start()
        for number in ("2", "1", "2"):
            registry.point("champion", number)
            processes.wait_for(lambda number=number: version_of(client) == number, f"version {number}")
            enough = [len(thread.answers) + 2 for thread in asking]
            processes.wait_for(
                lambda enough=enough: all(len(t.answers) >= n for t, n in zip(asking, enough, strict=True)), "answers"
            )
        for thread in asking:
            thread.stopped.set()
        for thread in asking:
            thread.join()
        assert client.metric("fusmae_model_reloads_total") == 3
        assert "tiny@champion is tiny/2 now, no longer tiny/1" in running.log.read_text()
    assert {status for thread in asking for status, _ in thread.answers} == {200}
    for number, thread in enumerate(asking):
        assert set(thread.versions) == {"1", "2"}
        pixels = exported.pixels(1 + number, seed=number)
        wanted = {v: session.run(pixels)["probabilities"] for v, session in registry.sessions.items()}
        # An answer of the one under the other's name would show.
        assert np.abs(wanted["1"] - wanted["2"]).max() > 1e-3
        for _, answer in thread.answers:
            np.testing.assert_allclose(answer["probabilities"], wanted[answer["model"]["version"]], atol=1e-5)


@pytest.fixture
def store(registry, monkeypatch):
    monkeypatch.chdir(registry.folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.uri)
    registry.point("champion", "1")
    return registry


def watcher_of(reference):
    return Watcher(reference, find_model(reference), 60.0, Metrics())


def test_a_version_that_cannot_run_never_takes_over(store, tmp_path, caplog):
    graph = onnx.load(store.exported.path)
    del graph.metadata_props[:]
    onnx.save(graph, tmp_path / "foreign.onnx")
    number = store.register("tiny", tmp_path / "foreign.onnx")
    watcher = watcher_of("tiny@champion")
    store.point("champion", number)
    with caplog.at_level("INFO", "fusmae.serving"):
        watcher._look()
        watcher._look()
    assert watcher.current.file.version == "1"
    assert watcher.registry.status == "fails"
    assert "carries no fusmae metadata" in watcher.registry.error
    assert len(caplog.records) == 1
    store.point("champion", "2")
    watcher._look()
    assert (watcher.current.file.version, watcher.registry.status) == ("2", "answers")


def test_an_alias_that_is_gone_leaves_the_model_that_answers(store):
    from mlflow import MlflowClient

    store.point("gone", "1")
    watcher = watcher_of("tiny@gone")
    MlflowClient(store.uri).delete_registered_model_alias("tiny", "gone")
    watcher._look()
    assert watcher.current.file.version == "1"
    assert watcher.registry.status == "fails"


def test_a_version_by_number_is_not_watched(store):
    watcher = watcher_of("tiny/2")
    assert (watcher.current.file.version, watcher.registry.status) == ("2", "not watched")
