"""`dvc exp run --temp` and `--queue` in a copy of a finished checkout, in a folder whose name addresses must quote.

A space is such a name; below %, #, ? and letters beyond ASCII DVC itself fails, which doctor says.
"""

import json
import shutil
import time
from pathlib import Path

import pytest

from fusmae.runs.mlflow_store import outdated_addresses

# A copy of 200 MB, and the stage pretrain twice, of an epoch or two: DVC makes, fills and removes its own checkouts.
pytestmark = [pytest.mark.xdist_group("pipeline"), pytest.mark.timeout(1200)]

RUNS = """
import json
from mlflow import MlflowClient
from fusmae.runs.mlflow_store import connect
connect()
client = MlflowClient()
found = client.search_runs([client.get_experiment_by_name("fusmae").experiment_id], "attributes.run_name = 'pretrain'")
print(json.dumps([
    {"epochs": run.data.params["pretrain.epochs"], "status": run.info.status, "uri": run.info.artifact_uri,
     "files": len(client.list_artifacts(run.info.run_id, "reconstructions"))}
    for run in found
]))
"""


@pytest.fixture(scope="module")
def copied(finished, tmp_path_factory):
    """The finished workspace's commands, run in a copy of it."""
    folder = tmp_path_factory.mktemp("copied") / "a feature"
    shutil.copytree(finished.folder, folder, symlinks=True, ignore=shutil.ignore_patterns("tmp"))

    class Copied(type(finished)):
        def __init__(self):
            self.folder, self.home, self.scratch = folder, finished.home, finished.scratch

    made = Copied()
    made.run(
        "git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-q", "-a", "-m", "locked", check=False
    )
    return made


def dvc(workspace, *arguments):
    programs = f"{workspace.folder / '.venv' / 'bin'}:{workspace.environment['PATH']}"  # as `activate` sets it
    return workspace.run("dvc", *arguments, DVC_NO_ANALYTICS="1", PATH=programs).stdout


def state_of(folder):
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def test_experiments_in_temporary_checkouts_run_and_their_mlflow_runs_are_kept(finished, copied):
    original, outside = state_of(finished.folder / "mlruns"), set(Path("/var/tmp").glob("*/*/*"))
    dvc(copied, "exp", "run", "--temp", "-S", "pretrain.epochs=3", "-n", "by-hand", "pretrain")
    dvc(copied, "exp", "run", "--queue", "-S", "pretrain.epochs=4", "-n", "queued", "pretrain")
    dvc(copied, "queue", "start")
    deadline = time.monotonic() + 600
    while "Success" not in (status := dvc(copied, "queue", "status")):
        assert "Failed" not in status, dvc(copied, "queue", "logs", "queued")
        assert time.monotonic() < deadline, status
        time.sleep(2)
    dvc(copied, "queue", "stop")
    experiments = dvc(copied, "exp", "list", "--name-only").split()
    assert sorted(experiments) == ["by-hand", "queued"]

    runs = {run["epochs"]: run for run in json.loads(copied.python(RUNS).splitlines()[-1])}
    artifacts = (copied.folder / "mlruns" / "artifacts").as_uri()
    for run in (runs["3"], runs["4"]):
        assert run["status"] == "FINISHED"
        assert run["uri"].startswith(f"{artifacts}/")
        assert run["files"]
    assert outdated_addresses(copied.folder / "mlruns" / "mlflow.db") == []

    assert list((copied.folder / ".dvc" / "tmp" / "exps").rglob("tmp*")) == []
    assert state_of(finished.folder / "mlruns") == original
    assert set(Path("/var/tmp").glob("*/*/*")) == outside


def test_the_registered_model_is_found_in_the_copy(copied):
    imports = "from fusmae.release.registry.model_file import model_file"
    script = f"{imports}; print(model_file('fusmae@challenger').path.is_file())"
    assert copied.python(script).splitlines()[-1] == "True"
