"""Pull a run's inputs from DVC's remote, and push its results there; without a remote, do neither."""

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.workspace import Workspace
from fusmae.runs.git import git

_DELAYS_S = [5.0, 30.0, 120.0]


class TransferFailedError(RuntimeError):
    """`dvc push` ended with a non-zero exit code."""


@task(task_run_name="pull", cache_policy=NO_CACHE, persist_result=False)
def pull(workspace: Workspace) -> None:
    """Fetch the data that the commit's dvc.lock names, and the run cache with results of other runs."""
    if workspace.has_remote and workspace.run("dvc", "pull", "--run-cache", "--allow-missing", "--quiet"):
        get_run_logger().warning("the remote has not all that dvc.lock names: what is missing is made")


@task(
    task_run_name="push",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=len(_DELAYS_S),
    retry_delay_seconds=_DELAYS_S,
)
def push(workspace: Workspace) -> None:
    """Send data, models and the run cache to the remote, and the experiment to the git remote `origin`.

    Raises:
        TransferFailedError: DVC can't push to its remote.
    """
    if not workspace.has_remote:
        return
    if code := workspace.run("dvc", "push", "--run-cache", "--quiet"):
        raise TransferFailedError(f"dvc push failed with exit code {code}; the experiment is safe on this host")
    if "origin" not in git("remote").stdout.split():
        return
    if workspace.run("dvc", "exp", "push", "--no-cache", "origin", workspace.experiment):
        get_run_logger().warning("run `dvc exp push origin %s` where origin may be written to", workspace.experiment)
