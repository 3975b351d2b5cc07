"""The steps of a flow run: open a workspace, pull its data, run its stages, save, push and link their results."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock
from prefect import get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from flows.notify import send
from flows.workspace import Workspace, fetch_lock, hosts_of_run, open_workspace
from fusmae.runs.exit_code import EXIT_CODE_FILE, is_worth_another_try
from fusmae.runs.git import git
from fusmae.runs.mlflow_address import shown_uri

MAX_RUNS = 5
"""Maximum number of starts of a flow run: after more, the cause is probably not a dead worker."""
_STAGE_DELAYS_S, _PUSH_DELAYS_S = [5.0, 30.0, 120.0, 300.0], [5.0, 30.0, 120.0]
_CHANGED = 3


def run_stages(stages: Sequence[str], overrides: Sequence[str], commit: str, *, only_new_data: bool = False) -> None:
    """Bring stages up to date, with one task per stage; for the other arguments see the flow `pipeline`.

    `stages` are names in dvc.yaml, without the part from @ on; without any, all stages run.

    Raises:
        RuntimeError: the flow run was started too often.
        StageFailedError: a stage failed.
    """
    if (flow_run.get_run_count() or 0) > MAX_RUNS:
        raise RuntimeError(
            f"this run was started {MAX_RUNS} times and never finished; check its worker's log and memory"
        )
    with open_workspace(commit, overrides) as workspace:
        if workspace.experiment:
            pull(workspace)
        names = stage_names(workspace.folder, *stages)
        for name in names:
            run_stage(name, workspace, is_first=name == names[0])
            if name == "fetch" and only_new_data and not has_new_data(workspace):
                why = "this run trains on new raw data only, and there are none since the newest version"
                send("no new raw data", why)
                return
        experiment = save(workspace, names, overrides) if workspace.experiment else ""
        if experiment:
            push(workspace)
        link(workspace, experiment)


def stage_names(folder: Path, *wanted: str) -> list[str]:
    """Names of the wanted stages in dvc.yaml, or of all, each after those that it depends on.

    Wanted are names without the part from @ on, by which the stages of a matrix are told apart.
    """
    import networkx
    from dvc.repo import Repo

    with Repo(str(folder)) as repo:
        names = [stage.name for stage in reversed(list(networkx.topological_sort(repo.index.graph)))]
    return [name for name in names if not wanted or name.split("@")[0] in wanted]


class StageFailedError(RuntimeError):
    """`dvc repro` of a stage ended with a non-zero exit code."""


class StageCutOffError(StageFailedError):
    """A stage failed for a reason that may pass: killed, out of memory, network, locks, a full disk."""


def _may_pass(_task: Any, _run: Any, state: Any) -> bool:
    return isinstance(state.result(raise_on_failure=False), StageCutOffError)


@task(
    task_run_name="{name}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=len(_STAGE_DELAYS_S),
    retry_delay_seconds=_STAGE_DELAYS_S,
    retry_condition_fn=_may_pass,
)
def run_stage(name: str, workspace: Workspace, *, is_first: bool) -> None:
    """Bring one stage up to date, by DVC's name such as `probe@random`; its output goes to the terminal.

    DVC decides whether the stage must run, so lineage is the same with and without Prefect. The first stage of a run
    may need raw data: of several runs on a host, one fetches them while the others wait.

    Raises:
        StageFailedError: the stage failed; its exit code is in the message.
    """
    exit_code_file = workspace.folder / ".fusmae" / "exit-code"
    exit_code_file.parent.mkdir(exist_ok=True)
    exit_code_file.unlink(missing_ok=True)
    options = ["--pull"] if workspace.has_remote else []
    code, written = 0, {EXIT_CODE_FILE: str(exit_code_file)}
    if is_first or name == "fetch":
        with fetch_lock(workspace.home, workspace.folder):
            # DVC tracks only the receipt of the raw files, not the files themselves.
            if name == "fetch" and workspace.run("python", "-m", "fusmae", "update", "--check") == _CHANGED:
                get_run_logger().info("raw files have changed: stage fetch looks at them again")
                options += ["--force", "--single-item"]
            code = workspace.run("dvc", "repro", *options, "fetch", **written)
    if not code and name != "fetch":
        exit_code_file.unlink(missing_ok=True)  # that of fetch
        code = workspace.run("dvc", "repro", *options, name, **written)
    if code:
        error = StageCutOffError if is_worth_another_try(exit_code_file) else StageFailedError
        raise error(f"stage {name} failed with exit code {code}; `dvc repro {name}` shows why")
    # A stage's process writes the file as soon as it begins.
    get_run_logger().info("stage %s has run" if exit_code_file.exists() else "stage %s was up to date", name)


def has_new_data(workspace: Workspace) -> bool:
    """Whether the newest model version was made from other raw files than those in the present receipt."""
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text(encoding="utf-8"))
    newest = f"{params['register_as']['model_name']}@challenger"
    command = [sys.executable, "-m", "fusmae", "lineage", newest, "--json"]
    asked = subprocess.run(
        command, cwd=workspace.folder, env=workspace.environment, capture_output=True, text=True, check=False
    )
    if asked.returncode:
        return True  # no version, or no readable lineage: better train once too often than miss new data
    receipt = json.loads((workspace.folder / "data/raw.json").read_text(encoding="utf-8"))
    return bool(json.loads(asked.stdout)["receipt"] != receipt)


@task(task_run_name="pull", cache_policy=NO_CACHE, persist_result=False)
def pull(workspace: Workspace) -> None:
    """Fetch the data that the commit's dvc.lock names, and the run cache with results of other runs."""
    if workspace.has_remote and workspace.run("dvc", "pull", "--run-cache", "--allow-missing", "--quiet"):
        get_run_logger().warning("the remote lacks some of what dvc.lock names: it is computed")


@task(task_run_name="save", cache_policy=NO_CACHE, persist_result=False)
def save(workspace: Workspace, stages: Sequence[str], overrides: Sequence[str]) -> str:
    """Save the run's changes as a DVC experiment of its commit; returns its name, or "" if nothing has changed.

    Raises:
        RuntimeError: DVC can't save the experiment.
    """
    if not git("-C", str(workspace.folder), "diff", "--quiet", "HEAD").returncode:
        return ""
    message = [
        f"Flow run {flow_run.get_id()}",
        *(f"override {override}" for override in overrides),
        *(f"MLflow run {run['run_id']}" for run in mlflow_runs(workspace.folder)),
    ]
    options = ["--force", "--name", workspace.experiment, "--message", "\n".join(message)]
    # The lock is needed because DVC writes references that all worktrees of a clone share. Stages are named because
    # otherwise DVC would treat the outputs of stages that did not run as up to date.
    with FileLock(workspace.home / ".fusmae" / "experiment.lock"):
        code = workspace.run("dvc", "exp", "save", *options, *stages)
    if code:
        raise RuntimeError(f"dvc exp save failed with exit code {code}")
    get_run_logger().info("saved: dvc exp apply %s brings it into a checkout", workspace.experiment)
    return workspace.experiment


@task(
    task_run_name="push",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=len(_PUSH_DELAYS_S),
    retry_delay_seconds=_PUSH_DELAYS_S,
)
def push(workspace: Workspace) -> None:
    """Send data, models and the run cache to the remote, and the experiment to the git remote `origin`.

    Raises:
        RuntimeError: DVC can't push to its remote.
    """
    if not workspace.has_remote:
        return
    if code := workspace.run("dvc", "push", "--run-cache", "--quiet"):
        raise RuntimeError(f"dvc push failed with exit code {code}; the experiment is safe on this host")
    if "origin" not in git("remote").stdout.split():
        return
    if workspace.run("dvc", "exp", "push", "--no-cache", "origin", workspace.experiment):
        get_run_logger().warning("run `dvc exp push origin %s` where origin may be written to", workspace.experiment)


def mlflow_runs(folder: Path) -> list[dict[str, str]]:
    """The MLflow run of each training stage with a result in the checkout: `run_id`, `experiment`, `stage`."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted((folder / "reports/runs").glob("*.json"))]


def link(workspace: Workspace, experiment: str) -> None:
    """Add the table `lineage` to the flow run; its experiment is "" if nothing has changed."""
    store = shown_uri()
    has_pages = os.environ.get("MLFLOW_TRACKING_URI", "").startswith("http")
    shown = "[{0}]({1}/#/runs/{0})" if has_pages else "{0}"
    lineage = {
        "commit": workspace.commit,
        "hosts": hosts_of_run() or socket.gethostname(),
        "DVC experiment": experiment or "none: nothing has changed",
        **{
            f"MLflow run of {run['stage']}": shown.format(run["run_id"], store) for run in mlflow_runs(workspace.folder)
        },
    }
    table = [{"what": what, "which": which} for what, which in lineage.items()]
    create_table_artifact(key="lineage", table=table, description=f"Flow run {flow_run.get_id()}; MLflow: {store}")
