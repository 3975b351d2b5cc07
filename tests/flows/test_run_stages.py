"""The module of a flow run: where it ends early, because there is nothing to train on."""

import json
import subprocess
from contextlib import contextmanager

import pytest

from flows import run_stages as module
from flows.run_stages import has_new_data, run_stages
from flows.workspace import Workspace

RECEIPT = {"source": {"name": "folder"}, "files": {"rasters": "sha256:1"}}


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/raw.json").write_text(json.dumps(RECEIPT))
    (tmp_path / "params.yaml").write_text("register_as: {model_name: tiny}\n")
    return Workspace(tmp_path, {}, "", "c0ffee", tmp_path)


@pytest.mark.parametrize(
    ("code", "receipt", "is_new"),
    [(0, RECEIPT, False), (0, RECEIPT | {"files": {"rasters": "sha256:2"}}, True), (1, None, True)],
)
def test_raw_files_are_new_unless_the_newest_version_was_made_of_them(workspace, monkeypatch, code, receipt, is_new):
    def run(command, **options):
        assert command[1:] == ["-m", "fusmae", "lineage", "tiny@challenger", "--json"]
        return subprocess.CompletedProcess(command, code, json.dumps({"receipt": receipt}), "")

    monkeypatch.setattr(module.subprocess, "run", run)
    assert has_new_data(workspace) is is_new


@pytest.mark.parametrize(("is_new", "ran"), [(True, ["fetch", "index"]), (False, ["fetch"])])
def test_a_run_for_new_data_ends_after_fetch_where_there_are_none_and_says_so(workspace, monkeypatch, is_new, ran):
    @contextmanager
    def opened(commit, overrides):
        yield workspace

    stages, said = [], []
    monkeypatch.setattr(module, "open_workspace", opened)
    monkeypatch.setattr(module, "stage_names", lambda folder: ["fetch", "index"])
    monkeypatch.setattr(module, "run_stage", lambda name, made, is_first: stages.append(name))
    monkeypatch.setattr(module, "has_new_data", lambda made: is_new)
    monkeypatch.setattr(module, "send", lambda subject, body: said.append(subject))
    monkeypatch.setattr(module, "link", lambda made, experiment: None)
    run_stages([], [], "", only_new_data=True)
    assert (stages, said) == (ran, [] if is_new else ["no new raw data"])
