"""A store whose folder is moved or copied: artifacts are found, and nothing is written into the original."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from fusmae.doctor.servers import check_local_store
from fusmae.errors import RegistryError
from fusmae.release.registry.model_file import model_file
from fusmae.runs.mlflow_store import connect, open_experiment, outdated_addresses

ROOT = Path(__file__).parents[2]
DATABASE = Path("mlruns/mlflow.db")
COLUMNS = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}
MADE = """
from pathlib import Path
import mlflow, onnx
from onnx import TensorProto, helper
from fusmae.runs.mlflow_store import connect, open_experiment
from fusmae.release.registry.versions import register_graph

connect()
experiment = open_experiment("test")
with mlflow.start_run(experiment_id=experiment):
    mlflow.log_text("water", "notes/a.txt")
mlflow.start_run(experiment_id="0")
mlflow.log_text("ice", "notes/a.txt")
mlflow.end_run()
values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", values[:1], values[1:])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), "model.onnx")
register_graph("tiny", Path("model.onnx"), extra_files=[], tags={}, experiment="test",
               run_file=Path("run.json"))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project's folder with two runs and a registered model; to be copied."""
    folder = tmp_path_factory.mktemp("made") / "first 50%41"
    folder.mkdir()
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}
    subprocess.run([sys.executable, "-c", MADE], cwd=folder, env={**kept, "PYTHONPATH": str(ROOT)}, check=True)
    return folder


@pytest.fixture
def enter(monkeypatch):
    """Makes a folder the working folder, with the store in it."""

    def change(folder):
        monkeypatch.chdir(folder)
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return folder

    return change


@pytest.fixture
def copied(made, tmp_path):
    """A copy whose original is still there; each test has an original of its own."""
    original = tmp_path / "original"
    shutil.copytree(made, original)
    with closing(sqlite3.connect(original / DATABASE)) as connection, connection:
        for table, column in COLUMNS.items():
            connection.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (made.as_uri(), original.as_uri())
            )
    shutil.copytree(original, tmp_path / "copy")
    return original, tmp_path / "copy"


def addresses():
    with closing(sqlite3.connect(DATABASE)) as connection:
        return [
            row[0]
            for table, column in COLUMNS.items()
            for row in connection.execute(f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL")
        ]


def state_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def finding(name):
    return next(found for found in check_local_store() if found.name == name)


def log_a_run():
    import mlflow

    with mlflow.start_run(experiment_id=open_experiment("test")):
        mlflow.log_text("new", "notes/new.txt")
    with mlflow.start_run(experiment_id="0"):
        mlflow.log_text("new", "notes/new.txt")


def test_a_new_store_keeps_everything_beside_its_database(made, enter):
    enter(made)
    assert len(addresses()) == 7
    assert all(address.startswith(f"{(made / 'mlruns').as_uri()}/") for address in addresses())
    assert outdated_addresses(DATABASE) == []


def test_a_copy_reads_and_writes_its_own_artifacts_and_leaves_the_original_alone(copied, enter, capsys):
    original, copy = copied
    before = state_of(original)
    enter(copy)
    connect()
    assert f"MLflow's artifacts were in {original / 'mlruns'}" in capsys.readouterr().err.replace("\n", "")
    connect()
    assert capsys.readouterr().err == ""
    log_a_run()
    assert all(address.startswith(f"{(copy / 'mlruns').as_uri()}/") for address in addresses())
    assert len(list((copy / "mlruns").rglob("new.txt"))) == 2
    assert state_of(original) == before
    shutil.rmtree(original)
    assert model_file("tiny@challenger", cache=copy / "cache").path.read_bytes() == Path("model.onnx").read_bytes()


def test_a_folder_that_was_moved_has_its_models_and_runs(copied, enter):
    import mlflow

    original, copy = copied
    shutil.rmtree(copy)
    moved = original.rename(copy.with_name("moved ü"))
    enter(moved)
    assert model_file("tiny@challenger", cache=moved / "cache").path.read_bytes() == Path("model.onnx").read_bytes()
    log_a_run()
    texts = [
        Path(mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="notes")).name
        for run in mlflow.MlflowClient().search_runs(["0"])
    ]
    assert texts == ["notes", "notes"]
    assert not original.exists()


def test_doctor_says_so_and_its_command_mends_it(copied, enter):
    original, copy = copied
    enter(copy)
    found = finding("mlflow artifacts")
    assert found.status == "warning"
    assert str(original / "mlruns") in found.found
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = found.mend.replace("python -c", f"{sys.executable} -c")
    subprocess.run(command, shell=True, env=environment, check=True)
    assert finding("mlflow artifacts").status == "ok"
    assert str(original) not in str(addresses())


def test_a_database_that_was_copied_without_its_artifacts_writes_nothing_until_they_are_there(copied, enter):
    original, copy = copied
    shutil.rmtree(copy / "mlruns" / "artifacts")
    enter(copy)
    connect()
    assert finding("mlflow artifacts").status == "error"
    with pytest.raises(RegistryError, match="not all of its artifacts came along") as raised:
        open_experiment("test")
    command = str(raised.value).partition("next:")[2].strip()
    before = state_of(original)
    subprocess.run(command, shell=True, check=True)
    connect()
    log_a_run()
    assert finding("mlflow artifacts").status == "ok"
    assert state_of(original) == before


def test_an_experiment_that_was_told_to_keep_artifacts_elsewhere_does(copied, enter, tmp_path):
    import mlflow

    enter(copied[1])
    connect()
    there = (tmp_path / "large disk" / "artifacts").as_uri()
    for number in range(2):  # not there yet, then with a run in it
        experiment = mlflow.get_experiment_by_name("large") or mlflow.create_experiment("large", there)
        connect()
        experiment = mlflow.get_experiment_by_name("large")
        assert experiment.artifact_location == there
        with mlflow.start_run(experiment_id=open_experiment("large")):
            mlflow.log_text(str(number), "a.txt")
    assert len(list((tmp_path / "large disk").rglob("a.txt"))) == 2


def test_the_same_folder_by_another_path_is_no_move(copied, enter, tmp_path, monkeypatch):
    _, copy = copied
    enter(copy)
    connect()
    before = addresses()
    (tmp_path / "link").symlink_to(copy)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'link' / DATABASE}")
    connect()
    assert addresses() == before


def test_the_first_experiment_s_plain_path_of_an_older_store_is_updated_as_well(copied, enter):
    original, copy = copied
    with closing(sqlite3.connect(copy / DATABASE)) as connection, connection:
        connection.execute(
            "UPDATE experiments SET artifact_location = ? WHERE experiment_id = 0", (f"{original}/mlruns/0",)
        )
    enter(copy)
    connect()
    log_a_run()
    assert str(original) not in str(addresses())
    assert not list((original / "mlruns").rglob("new.txt"))
