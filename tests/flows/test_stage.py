"""A stage's task: what it asks DVC for."""

import logging
from contextlib import contextmanager
from pathlib import Path

import pytest
from prefect.states import Failed

from flows import run_stages as module
from flows.run_stages import StageFailedError, run_stage
from flows.workspace import Workspace
from fusmae.runs.exit_code import EXIT_CODE_FILE, TEMPORARY, TOLD_TO_END


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """What a workspace is asked to run; `fusmae update --check` ends with the code that is set."""
    made = {"commands": [], "code": 0, "ended": None}

    def run(self, *command, **variables):
        made["commands"].append(" ".join(command))
        if command[0] == "dvc" and made["ended"]:
            Path(variables[EXIT_CODE_FILE]).write_text(made["ended"])
            return 255
        return made["code"] if command[0] == "python" else 0

    (tmp_path / "params.yaml").write_text("data: {source: {name: folder}}\n")
    monkeypatch.setattr(Workspace, "run", run)
    monkeypatch.setattr(Workspace, "has_remote", False)
    monkeypatch.setattr(module, "get_run_logger", lambda: logging.getLogger("test"))
    made["workspace"] = Workspace(tmp_path, {}, "", "c0ffee", tmp_path)
    return made


def test_fetch_runs_anew_where_raw_files_have_changed_and_other_stages_look_at_none(calls):
    run_stage.fn("fetch", calls["workspace"], is_first=True)
    calls["code"] = 3
    run_stage.fn("fetch", calls["workspace"], is_first=True)
    run_stage.fn("index", calls["workspace"], is_first=False)
    assert calls["commands"] == [
        "python -m fusmae update --check",
        "dvc repro fetch",
        "python -m fusmae update --check",
        "dvc repro --force --single-item fetch",
        "dvc repro index",
    ]


def test_a_run_that_begins_with_a_later_stage_fetches_while_other_runs_of_the_host_wait(calls, monkeypatch):
    @contextmanager
    def lock(home, folder):
        calls["commands"].append("lock")
        yield
        calls["commands"].append("unlock")

    monkeypatch.setattr(module, "fetch_lock", lock)
    run_stage.fn("pretrain", calls["workspace"], is_first=True)
    assert calls["commands"] == ["lock", "dvc repro fetch", "unlock", "dvc repro pretrain"]


def test_a_stage_that_was_up_to_date_is_said_to_be_even_where_its_run_fetched_before(calls, monkeypatch, caplog):
    def run(self, *command, **variables):
        if command[-1] == "fetch":
            Path(variables[EXIT_CODE_FILE]).write_text("0")
        return 0

    monkeypatch.setattr(Workspace, "run", run)
    with caplog.at_level(logging.INFO):
        run_stage.fn("pretrain", calls["workspace"], is_first=True)
    assert caplog.messages == ["stage pretrain was up to date"]


@pytest.mark.parametrize(
    ("ended", "is_tried_again"),
    [
        ("begun", True),  # killed: no more was written
        (str(TOLD_TO_END), True),
        (str(TEMPORARY), True),  # out of memory, a full disk, a server that is away
        ("1", False),  # failed for what it was given, such as a learning rate at which the loss becomes infinite
    ],
)
def test_a_stage_is_tried_again_if_it_was_cut_off_and_not_if_it_would_fail_again(calls, ended, is_tried_again):
    calls["ended"] = ended
    with pytest.raises(StageFailedError, match="stage pretrain failed with exit code 255") as failed:
        run_stage.fn("pretrain", calls["workspace"], is_first=False)
    # What Prefect asks after a failure.
    assert run_stage.retry_condition_fn(run_stage, None, Failed(data=failed.value)) is is_tried_again
    assert run_stage.retries == len(run_stage.retry_delay_seconds) == 4
