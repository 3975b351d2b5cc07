"""A stage's task: what it asks DVC for."""

import logging

import pytest

from flows import run_stages as module
from flows.run_stages import run_stage
from flows.workspace import Workspace


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """What a workspace is asked to run; `fusmae update --check` ends with the code that is set."""
    made = {"commands": [], "code": 0}

    def run(self, *command, **variables):
        made["commands"].append(" ".join(command))
        return made["code"] if command[0] == "python" else 0

    (tmp_path / "params.yaml").write_text("data: {source: {name: folder}}\n")
    monkeypatch.setattr(Workspace, "run", run)
    monkeypatch.setattr(Workspace, "has_remote", False)
    monkeypatch.setattr(module, "get_run_logger", lambda: logging.getLogger("test"))
    made["workspace"] = Workspace(tmp_path, {}, "", "c0ffee", tmp_path)
    return made


def test_fetch_runs_anew_where_raw_files_have_changed_and_other_stages_look_at_none(calls):
    run_stage.fn("fetch", calls["workspace"])
    calls["code"] = 3
    run_stage.fn("fetch", calls["workspace"])
    run_stage.fn("index", calls["workspace"])
    assert calls["commands"] == [
        "python -m fusmae update --check",
        "dvc repro fetch",
        "python -m fusmae update --check",
        "dvc repro --force --single-item fetch",
        "dvc repro index",
    ]
