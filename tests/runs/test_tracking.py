"""One MLflow run a stage, in a SQLite store that is made once."""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from fusmae.errors import RegistryError
from fusmae.files import file_sha256
from fusmae.runs.mlflow_store import connect
from fusmae.runs.tracking import stage_run
from tests.web import QuietHandler, web_server

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "input.txt").write_text("pixels", encoding="utf-8")
    return tmp_path


def open_run(store, lr=0.1):
    return stage_run(
        "train",
        experiment="test",
        seed=7,
        params={"section": {"lr": lr}},
        inputs=[Path("input.txt")],
        code={},
        run_file=store / "runs" / "train.json",
        accelerator="cpu",
    )


def all_runs():
    from mlflow import MlflowClient

    client = MlflowClient()
    return client.search_runs([client.get_experiment_by_name("test").experiment_id])


def test_a_cut_off_stage_goes_on_in_the_same_run(store):
    with pytest.raises(RuntimeError, match="power cut"), open_run(store) as first:
        raise RuntimeError("power cut")
    assert not (store / "runs" / "train.json").exists()
    with open_run(store) as second:
        pass
    assert second.run_id == first.run_id
    assert [run.info.status for run in all_runs()] == ["FINISHED"]
    assert json.loads((store / "runs" / "train.json").read_text())["run_id"] == first.run_id


def test_a_run_names_each_host_that_worked_on_it_and_the_commit_there(store, monkeypatch):
    at = iter(["a" * 40, "a" * 40, "b" * 40])
    monkeypatch.setattr("fusmae.runs.provenance.git_state", lambda: {"commit": next(at), "is_dirty": False})
    for host in ("one", "one"):
        monkeypatch.setattr("socket.gethostname", lambda host=host: host)
        with pytest.raises(RuntimeError, match="power cut"), open_run(store):
            raise RuntimeError("power cut")
    monkeypatch.setattr("socket.gethostname", lambda: "two")
    with open_run(store):
        pass
    (run,) = all_runs()
    assert run.data.tags["fusmae.hosts"] == f"one at {'a' * 12}, two at {'b' * 12}"


def test_other_params_are_another_run_and_nothing_is_left_of_the_first(store):
    with pytest.raises(RuntimeError), open_run(store, lr=0.1) as first:
        raise RuntimeError
    with open_run(store, lr=0.2) as second:
        assert second.resume_folder != first.resume_folder
    assert len(all_runs()) == 2
    assert list((store / ".fusmae").iterdir()) == []


def test_a_finished_stage_run_again_is_a_new_run(store):
    with open_run(store) as first:
        pass
    with open_run(store) as second:
        pass
    assert second.run_id != first.run_id


def test_a_run_names_its_device_its_threads_and_the_flow_run_that_called_it(store, monkeypatch):
    import torch

    with open_run(store):
        pass
    monkeypatch.setenv("FUSMAE_FLOW_RUN_ID", "flow-7")
    with open_run(store, lr=0.2):
        pass
    within, alone = (run.data.tags for run in all_runs())
    assert within["fusmae.device"] == alone["fusmae.device"] != ""
    assert within["fusmae.num_threads"] == str(torch.get_num_threads())
    assert within["fusmae.flow_run"] == "flow-7"
    assert "fusmae.flow_run" not in alone


def test_what_a_stage_makes_knows_nothing_of_the_flow_run_that_called_it(store, monkeypatch):
    with open_run(store) as alone:
        pass
    monkeypatch.setenv("FUSMAE_FLOW_RUN_ID", "flow-7")
    with open_run(store) as within:
        pass
    assert within.facts == alone.facts
    assert within.resume_folder == alone.resume_folder


def test_a_run_has_flat_params_tags_and_the_hash_of_each_input(store):
    with open_run(store):
        pass
    (run,) = all_runs()
    assert run.data.params == {"seed": "7", "section.lr": "0.1"}
    assert run.data.tags["fusmae.stage"] == "train"
    assert run.data.tags["fusmae.git_is_dirty"] in {"true", "false"}
    (dataset,) = run.inputs.dataset_inputs
    assert dataset.dataset.name == "input.txt"
    assert json.loads(run.data.tags["fusmae.inputs"]) == {"input.txt": f"sha256:{file_sha256(Path('input.txt'))}"}
    assert dataset.dataset.digest == file_sha256(Path("input.txt"))[:36]


def test_a_run_that_the_store_does_not_have_is_begun_anew(store):
    with pytest.raises(RuntimeError), open_run(store) as first:
        raise RuntimeError
    (first.resume_folder / "run_id").write_text("0" * 32, encoding="utf-8")
    with open_run(store) as second:
        pass
    assert second.run_id not in {first.run_id, "0" * 32}


def test_processes_that_meet_at_an_empty_store_all_succeed(tmp_path):
    script = "from fusmae.runs.mlflow_store import connect, open_experiment; connect(); print(open_experiment('race'))"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    printed = [process.communicate() for process in started]
    assert [process.returncode for process in started] == [0] * 4, printed
    assert len({out.split()[-1] for out, _ in printed}) == 1


class OldServer(QuietHandler):
    """Says of itself what a server of MLflow says; asked for anything else it knows nothing."""

    version, asked = "2.22.1", []

    def do_GET(self):
        self.asked.append(self.path)
        self.send_response(200 if self.path == "/version" else 404)
        self.end_headers()
        self.wfile.write(self.version.encode() if self.path == "/version" else b"")

    do_POST = do_GET  # noqa: N815


@pytest.fixture
def server(store, monkeypatch):
    """An address at which `OldServer` answers."""
    monkeypatch.setattr(OldServer, "asked", [])
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with web_server(OldServer) as running:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", running.address)
        yield running


def test_a_server_that_is_too_old_is_refused_before_a_stage_begins(store, server):
    with (
        pytest.raises(
            RegistryError, match=r"too old(.|\n)*2\.22\.1(.|\n)*3\.0 or later(.|\n)*mlflow db upgrade"
        ) as raised,
        open_run(store),
    ):
        pytest.fail("the stage began")
    assert version("mlflow") in str(raised.value)
    assert OldServer.asked == ["/version"]
    with pytest.raises(RegistryError, match="too old"):
        connect()
    assert OldServer.asked == ["/version"]  # once a process


@pytest.mark.parametrize("stated", ["3.0.0", "99.1", "3.1.0.dev0", "a proxy's page"])
def test_any_other_server_is_asked_on(server, monkeypatch, stated):
    monkeypatch.setattr(OldServer, "version", stated)
    with pytest.raises(RegistryError, match="does not answer"):
        connect()
    assert OldServer.asked[0] == "/version"
    assert "experiments/search" in OldServer.asked[1]


def test_an_error_never_shows_the_password_of_the_tracking_server(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryError) as raised:
        connect()
    assert "secret" not in str(raised.value)
    assert "127.0.0.1:9" in str(raised.value)
