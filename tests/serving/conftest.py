"""A service in a thread over the tiny exported model; a real registry with two versions of it."""

import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
import uvicorn

from fusmae.inference.session import Session
from fusmae.release.registry.versions import register_graph
from fusmae.serving.app import make_app
from fusmae.serving.limits import Limits
from fusmae.serving.loaded import find_model
from tests.conftest import turned
from tests.serving.graphs import TASKS, save_graph

LIMITS = {
    "max_batch": 8,
    "max_requests": 32,
    "max_body_mb": 2.0,
    "max_answer_mb": 8.0,
    "poll_s": 0.2,
    "stop_s": 20,
}
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "ORT_DISABLE_TELEMETRY": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
}


def npz_of(arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def wait_for(found, what, seconds=90):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = found()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"waited in vain for {what}")


class Client(httpx.Client):
    """Asks one service."""

    def ask(self, arrays):
        return self.ask_at("/predict", arrays)

    def ask_at(self, route, arrays, **headers):
        return self.post(route, content=npz_of(arrays), headers={"Content-Type": "application/x-npz"} | headers)

    def metric(self, name):
        """A sample's value; None where there is none."""
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.get("/metrics").text, re.MULTILINE)
        return float(found[1]) if found else None


@pytest.fixture(scope="session")
def npz():
    return npz_of


@pytest.fixture(scope="session")
def limits():
    """Makes limits; any field may be given."""
    return lambda **changes: Limits(**(LIMITS | changes))


@pytest.fixture
def start(exported, limits):
    """Starts services on free ports, in threads, of the tiny model unless another is named; gives a client of each."""
    with_service = []

    def begin(reference=exported.path, **changes):
        app = make_app(str(reference), find_model(str(reference)), limits(**changes))
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
        thread = threading.Thread(target=server.run)
        thread.start()
        wait_for(lambda: server.started, "the service")
        port = server.servers[0].sockets[0].getsockname()[1]
        client = Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
        with_service.append((server, thread, client))
        return client

    yield begin
    for server, thread, client in with_service:
        client.close()
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def graphs(make_once, exported):
    """Paths of graphs by kind, see `graphs.py`."""

    def fill(folder):
        for kind in TASKS:
            save_graph(kind, exported.inputs, folder / f"{kind}.onnx")

    folder = make_once("kinds", fill)
    return {kind: folder / f"{kind}.onnx" for kind in TASKS}


@pytest.fixture
def client(start):
    return start()


@contextmanager
def process(command, folder, ready, **environment):
    """Run a server until the block ends; `ready` finds its port in what it prints. Gives client, process and log."""
    log = folder / f"log-{time.monotonic_ns()}.txt"
    with log.open("w") as file:
        started = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | ENVIRONMENT | environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        found = wait_for(
            lambda: re.search(ready, log.read_text()) or started.poll() is not None, f"{command}\n{log.read_text()}"
        )
        assert found is not True, log.read_text()
        with Client(base_url=f"http://127.0.0.1:{found[1]}", timeout=60) as client:
            yield SimpleNamespace(client=client, process=started, log=log, url=str(client.base_url))
    finally:
        with suppress(ProcessLookupError):  # MLflow's servers have children
            os.killpg(started.pid, signal.SIGTERM)
        started.wait(timeout=60)


def served(model, folder, *options, python=("-m", "fusmae"), **environment):
    """`fusmae serve` as a process."""
    command = [sys.executable, *python, "serve", "--model", model, "--port", "0", "--poll-s", "0.2", *options]
    return process(command, folder, r"answers on http://[0-9.]+:(\d+)", **environment)


def mlflow(folder, *arguments, **environment):
    """One of MLflow's own servers as a process, on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    programs = str(Path(sys.executable).parent)  # as after `. .venv/bin/activate`: it calls uvicorn by name
    command = [f"{programs}/mlflow", *arguments, "--host", "127.0.0.1", "--port", str(port)]
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    return process(command, folder, r"running on http://[0-9.]+:(\d+)", PATH=path, **environment)


@pytest.fixture(scope="session")
def processes():
    return SimpleNamespace(served=served, mlflow=mlflow, wait_for=wait_for)


class Registry:
    """A SQLite store with two versions of `tiny` that answer differently."""

    def __init__(self, folder, exported):
        self.folder = folder
        self.uri = f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}"
        self.exported = exported
        graphs = {"1": exported.path, "2": turned(exported.path, folder / "second.onnx")}
        self.sessions = {number: Session(path) for number, path in graphs.items()}
        for number, path in graphs.items():
            assert self.register("tiny", path) == number

    def register(self, name, path, uri=None):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            patch.setenv("MLFLOW_TRACKING_URI", uri or self.uri)
            return register_graph(
                name,
                path,
                extra_files=[],
                tags={},
                experiment=name,
                run_file=Path("none.json"),
            ).number

    def point(self, alias, number, name="tiny", uri=None):
        from mlflow import MlflowClient

        MlflowClient(uri or self.uri).set_registered_model_alias(name, alias, number)


@pytest.fixture(scope="session")
def registry(tmp_path_factory, exported):
    return Registry(tmp_path_factory.mktemp("registry"), exported)
