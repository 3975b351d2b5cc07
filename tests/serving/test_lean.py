"""The service with nothing but requirements-serve.lock, over a tracking server that goes away."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
LOCK, FULL_LOCK = ROOT / "requirements-serve.lock", ROOT / "requirements.lock"

# Every module of a package that the lock does not name can't be imported.
LEAN = f"""
import re, sys
from importlib.machinery import PathFinder
from importlib.metadata import packages_distributions
from importlib.util import find_spec

def plain(name):
    return re.sub("[-_.]+", "-", name).lower()

locked = {{plain(name) for name in re.findall("^([^ =#]+)==", open({str(LOCK)!r}).read(), re.MULTILINE)}} | {{"fusmae"}}
blocked = {{top for top, owners in packages_distributions().items() if not locked & set(map(plain, owners))}}

class Lean(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in blocked else super().find_spec(name, path, target)

sys.meta_path = [Lean if finder is PathFinder else finder for finder in sys.meta_path]
for name in ("torch", "timm", "lightning", "pandas", "sqlalchemy", "sklearn", "onnx", "scipy"):
    assert not find_spec(name) and name not in sys.modules, name
sys.path.insert(0, {str(ROOT)!r})
from fusmae.cli import main
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def tracking(registry, processes, tmp_path_factory):
    """MLflow's tracking server over SQLite, with version 1 and 2 of `remote`, sent over HTTP."""
    folder = tmp_path_factory.mktemp("tracking")
    arguments = ("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--artifacts-destination", str(folder))
    with processes.mlflow(
        folder, "server", *arguments, "--workers", "1", MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"
    ) as server:
        for path in (registry.exported.path, registry.folder / "second.onnx"):
            registry.register("remote", path, uri=server.url)
        registry.point("champion", "1", name="remote", uri=server.url)
        yield server


@pytest.fixture(scope="module")
def lean(tracking, processes, tmp_path_factory):
    environment = {"MLFLOW_TRACKING_URI": tracking.url, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    with processes.served(
        "remote@champion", tmp_path_factory.mktemp("lean"), python=("-c", LEAN), **environment
    ) as running:
        yield running


# In this order: the last one ends the tracking server.
pytestmark = pytest.mark.xdist_group("lean")


def test_the_service_answers_with_the_locked_packages_only(lean, registry, exported):
    pixels = exported.pixels(2)
    answer = lean.client.ask(pixels).json()
    assert answer["model"]["version"] == "1"
    wanted = registry.sessions["1"].run(pixels)["probabilities"]
    np.testing.assert_allclose(answer["probabilities"], wanted, atol=1e-5)
    assert lean.client.post("/predict/geotiff", files=[("s1", ("s1.tif", b"garbage"))]).status_code == 422


def test_it_follows_the_alias_over_http(lean, tracking, registry, processes, exported):
    registry.point("champion", "2", name="remote", uri=tracking.url)
    processes.wait_for(lambda: lean.client.get("/health").json()["model"]["version"] == "2", "version 2")
    assert lean.client.ask(exported.pixels(1)).json()["model"]["version"] == "2"


def test_it_outlives_its_registry_and_says_so_once(lean, tracking, processes, exported):
    version = lean.client.get("/health").json()["model"]["version"]
    tracking.process.terminate()
    tracking.process.wait(timeout=60)

    def failing():
        return lean.client.get("/health").json()["registry"]["status"] == "fails"

    processes.wait_for(failing, "the registry's end")
    queried = lean.client.metric("fusmae_registry_queries_total")
    processes.wait_for(lambda: lean.client.metric("fusmae_registry_queries_total") >= queried + 2, "two more queries")
    health = lean.client.get("/health")
    assert health.status_code == 200
    assert health.json()["is_ready"]
    assert "does not answer" in health.json()["registry"]["error"]
    assert lean.client.metric("fusmae_registry_up") == 0
    assert lean.client.ask(exported.pixels(1)).json()["model"]["version"] == version
    assert lean.log.read_text().count("goes on answering") == 1


def test_a_sqlite_store_needs_more_than_the_lock_and_says_so(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LEAN, "serve", "--model", "tiny@champion"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("fusmae: ")
    assert "SQLAlchemy, which reads those, is not installed" in done.stderr
    assert "MLFLOW_TRACKING_URI=http://" in done.stderr


def pins(path):
    return set(re.findall(r"^([^ =#]+==[^ ]+)", path.read_text(encoding="utf-8"), re.MULTILINE))


def test_the_lean_lock_pins_what_the_tests_run_on():
    assert pins(LOCK) < pins(FULL_LOCK)
    names = {pin.partition("==")[0] for pin in pins(LOCK)}
    assert {"onnxruntime", "rasterio", "fastapi", "uvicorn", "prometheus-client", "mlflow-skinny"} <= names
    assert not names & {"torch", "timm", "lightning", "mlflow", "sqlalchemy", "pandas"}
