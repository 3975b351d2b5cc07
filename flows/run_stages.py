"""The steps of a flow run: open a workspace, pull its data, run its stages, save and push their results."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml
from filelock import FileLock
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from flows.experiment import describe
from flows.lineage_table import link, mlflow_runs
from flows.notify import send
from flows.remote import pull, push
from flows.stage import run_stage, stage_names
from flows.workspace import Workspace, open_workspace

_RECEIPT = Path("data/raw.json")
MAX_RUNS = 5
"""Maximum number of starts of a flow run: after more, the cause is probably not a dead worker."""


class GivenUpError(RuntimeError):
    """A flow run was started too often."""


def run_stages(stages: Sequence[str], overrides: Sequence[str], commit: str, *, only_new_data: bool = False) -> None:
    """Bring stages up to date, with one task per stage.

    Args:
        stages: names in dvc.yaml, without the part from @ on; an empty list for all stages.
        overrides: overrides of parameters.
        commit: commit to work at; "" for that of the checkout.
        only_new_data: end after stage fetch if the newest model version was made from the same raw files.

    Raises:
        GivenUpError: the flow run was started too often.
        StageFailedError: a stage failed.
    """
    if (flow_run.get_run_count() or 0) > MAX_RUNS:
        raise GivenUpError(f"this run began {MAX_RUNS} times and died each time; look at its worker and its memory")
    with open_workspace(commit, overrides) as workspace:
        if workspace.experiment:
            pull(workspace)
        names = stage_names(workspace.folder, *stages)
        for name in names:
            run_stage(name, workspace)
            if name == "fetch" and only_new_data and not has_new_data(workspace):
                send(
                    "no new raw data",
                    "this run was to train on new raw data, and there are none since the newest version",
                )
                return
        experiment = save(workspace, names, overrides) if workspace.experiment else ""
        if experiment:
            push(workspace)
        link(workspace, experiment)


def has_new_data(workspace: Workspace) -> bool:
    """Whether the newest model version was made from other raw files than those in the present receipt."""
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text(encoding="utf-8"))
    newest = f"{params['register_as']['model_name']}@challenger"
    asked = subprocess.run(
        [sys.executable, "-m", "fusmae", "lineage", newest, "--json"],
        cwd=workspace.folder,
        env=workspace.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if asked.returncode:
        return True  # no version, or no readable lineage: better train once too often than miss new data
    receipt = json.loads((workspace.folder / _RECEIPT).read_text(encoding="utf-8"))
    return bool(json.loads(asked.stdout)["receipt"] != receipt)


@task(task_run_name="save", cache_policy=NO_CACHE, persist_result=False)
def save(workspace: Workspace, stages: Sequence[str], overrides: Sequence[str]) -> str:
    """Save the run's changes as a DVC experiment of its commit; returns its name, or "" if nothing has changed.

    Raises:
        RuntimeError: DVC can't save the experiment.
    """
    if not _has_changed(workspace):
        return ""
    runs = [run["run_id"] for run in mlflow_runs(workspace.folder).values()]
    message = describe(str(flow_run.get_id()), overrides, runs)
    options = ["--force", "--name", workspace.experiment, "--message", message]
    # The lock is needed because DVC writes references that all worktrees of a clone share. Stages are named because
    # otherwise DVC would treat the outputs of stages that did not run as up to date.
    with FileLock(workspace.home / ".fusmae" / "experiment.lock"):
        code = workspace.run("dvc", "exp", "save", *options, *stages)
    if code:
        raise RuntimeError(f"dvc exp save failed with exit code {code}")
    get_run_logger().info("saved: dvc exp apply %s brings it into a checkout", workspace.experiment)
    return workspace.experiment


def _has_changed(workspace: Workspace) -> bool:
    found = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=no"],  # noqa: S607
        cwd=workspace.folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return bool(found.stdout)
