"""Addresses of MLflow's store in folders of any name, relative addresses, and temporary checkouts of DVC."""

import os
import string
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from sqlalchemy.engine import make_url

from fusmae.errors import RegistryError
from fusmae.runs.mlflow_address import local_path, shown_uri, sqlite_uri, store_path, tracking_uri

ROOT = Path(__file__).parents[2]
PRINTABLE = "".join(sorted(set(string.printable) - set(string.whitespace) - {"/"})) + " "
NAMES = [f"a{character}b" for character in PRINTABLE] + [
    "feature%2Fsar",
    "100%",
    "%",
    "%%41",
    "?a=1&b=2#c",
    "Löß-ü",
    "u\N{COMBINING DIAERESIS}",
    "砂",
    " ",
    "~",
    "two\nlines",
    ":memory:",
    "a@b:c",
    PRINTABLE,
]
# Each step takes addresses apart and puts them together again.
WORK = """
import json, sys
from pathlib import Path
sys.path.insert(0, str(Path("packages").absolute()))
import mlflow, numpy, onnx
assert "%" in mlflow.__file__
from mlflow import MlflowClient
from onnx import TensorProto, helper
from fusmae.runs.mlflow_store import connect
from fusmae.release.registry.model_file import model_file
from fusmae.release.registry.versions import register_graph
from fusmae.runs.tracking import stage_run

Path("input.txt").write_text("pixels")
with stage_run("train", experiment="test", seed=7, params={}, inputs=[Path("input.txt")], code={},
               run_file=Path("run.json"), accelerator="cpu") as run:
    Path("pictures").mkdir()
    Path("pictures/a.txt").write_text("water")
    run.log_folder(Path("pictures"))
values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", values[:1], values[1:])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), "model.onnx")
register_graph("tiny", Path("model.onnx"), extra_files=[], tags={}, experiment="test",
               run_file=Path("run.json"))
copy = mlflow.artifacts.download_artifacts(run_id=run.run_id, artifact_path="pictures/a.txt", dst_path="copy")
print(json.dumps({
    "read back": Path(copy).read_text(),
    "registered": model_file("tiny@challenger").path.read_bytes() == Path("model.onnx").read_bytes(),
    "experiments": [found.artifact_location for found in MlflowClient().search_experiments()],
}))
"""


@pytest.fixture(autouse=True)
def _own_store(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.mark.parametrize("name", NAMES)
def test_a_path_comes_back_from_its_address_whatever_its_characters(name, monkeypatch):
    path = Path("/data") / name / "mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", sqlite_uri(path))
    assert store_path() == path
    assert tracking_uri() == sqlite_uri(path)
    assert make_url(tracking_uri()).database == str(path)
    assert local_path(path.as_uri()) == path


def test_in_a_folder_of_any_name_a_run_is_tracked_and_its_model_registered_and_read(tmp_path):
    name = f"feature%2Fsar '\"`$HOME;:a %(x)s ü?q=1#f {PRINTABLE}"
    folder = tmp_path / name
    folder.mkdir()
    # The environment is in the checkout, too.
    (folder / "packages").symlink_to(Path(mlflow.__file__).parents[1])
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "FUSMAE"))}
    environment = {**kept, "PYTHONPATH": str(ROOT), "GIT_PYTHON_REFRESH": "quiet", "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(
        [sys.executable, "-c", WORK], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stdout + done.stderr
    assert '"read back": "water", "registered": true' in done.stdout
    # Nothing beside the folder: MLflow made another one whose name had the path's escapes.
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert {path.name for path in (folder / "mlruns").iterdir()} == {"artifacts", "create.lock", "mlflow.db"}
    assert done.stdout.count((folder / "mlruns").as_uri()) == 2


def test_a_path_that_is_no_text_is_refused_with_the_cure():
    with pytest.raises(RegistryError, match=r"bytes that are no text(.|\n)*rename the folder"):
        sqlite_uri(Path("/data") / os.fsdecode(b"s\xfcd"))


def test_a_relative_address_is_of_the_working_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlruns/mlflow.db")
    assert store_path() == tmp_path / "mlruns" / "mlflow.db"
    assert tracking_uri() == sqlite_uri(tmp_path / "mlruns" / "mlflow.db")


@pytest.mark.parametrize("given", ["sqlite://", "sqlite:///:memory:", "http://127.0.0.1:5000", "postgresql://host/db"])
def test_an_address_that_names_no_file_is_no_local_store(monkeypatch, given):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    assert store_path() is None
    assert tracking_uri() == given


def test_errors_name_a_local_store_by_its_path(monkeypatch, tmp_path):
    folder = tmp_path / "a%2Fb @ü"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert shown_uri() == f"{folder}/mlruns/mlflow.db"
