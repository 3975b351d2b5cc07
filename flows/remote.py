"""What a run needs comes from DVC's remote, what it made goes there; without a remote, neither."""

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.stage import has_remote
from flows.workspace import Workspace
from fusmae.worktree import git

_OPTIONS = {"cache_policy": NO_CACHE, "persist_result": False, "retries": 3, "retry_delay_seconds": [5.0, 30.0, 120.0]}


class TransferFailedError(RuntimeError):
    """`dvc push` or `dvc save` ended with a non-zero exit code."""


@task(task_run_name="pull", cache_policy=NO_CACHE, persist_result=False)
def pull(workspace: Workspace) -> None:
    """Bring what the commit's dvc.lock names, and what others' runs made of the same inputs."""
    if has_remote(workspace.folder) and workspace.run("dvc", "pull", "--run-cache", "--allow-missing", "--quiet"):
        get_run_logger().warning("the remote has not all that dvc.lock names: what is missing is made")


@task(task_run_name="push", **_OPTIONS)  # type: ignore[call-overload, untyped-decorator, unused-ignore]
def push(workspace: Workspace) -> None:
    """Send data, models and the run cache to the remote, and the experiment to where the clone came from.

    Raises:
        TransferFailedError: the remote does not take it.
    """
    if not has_remote(workspace.folder):
        return
    if code := workspace.run("dvc", "push", "--run-cache", "--quiet"):
        raise TransferFailedError(f"dvc push failed with exit code {code}; the experiment is safe on this host")
    if "origin" not in git("remote").stdout.split():
        return
    if workspace.run("dvc", "exp", "push", "--no-cache", "origin", workspace.experiment):
        get_run_logger().warning("run `dvc exp push origin %s` where origin may be written to", workspace.experiment)
