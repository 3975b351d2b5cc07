"""One DVC stage as one Prefect task, in its own process group, retried where that may help."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.raw_data import fetching_alone
from flows.workspace import Workspace
from fusmae.runs.exit_code import EXIT_CODE_FILE, is_worth_another_try

_DELAYS_S = [5.0, 30.0, 120.0, 300.0]
_CHANGED = 3


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
    retries=len(_DELAYS_S),
    retry_delay_seconds=_DELAYS_S,
    retry_condition_fn=_may_pass,
)
def run_stage(name: str, workspace: Workspace) -> None:
    """Bring one stage up to date; its output goes to the terminal.

    DVC decides whether the stage must run, so lineage is the same with and without Prefect.

    Args:
        name: DVC's name of the stage, such as `probe@random`.
        workspace: workspace to run the stage in.

    Raises:
        StageFailedError: the stage failed; its exit code is in the message.
    """
    exit_code_file = workspace.folder / ".fusmae" / "exit-code"
    exit_code_file.parent.mkdir(exist_ok=True)
    exit_code_file.unlink(missing_ok=True)
    with fetching_alone(workspace.home, workspace.folder) if name == "fetch" else nullcontext():
        options = ["--pull"] if workspace.has_remote else []
        # DVC tracks only the receipt of the raw files, not the files themselves.
        if name == "fetch" and workspace.run("python", "-m", "fusmae", "update", "--check") == _CHANGED:
            get_run_logger().info("raw files have changed: stage fetch looks at them again")
            options += ["--force", "--single-item"]
        code = workspace.run("dvc", "repro", *options, name, **{EXIT_CODE_FILE: str(exit_code_file)})
    if code:
        error = StageCutOffError if is_worth_another_try(exit_code_file) else StageFailedError
        raise error(f"stage {name} failed with exit code {code}; `dvc repro {name}` shows why")
    # A stage's process writes the file as soon as it begins.
    get_run_logger().info("stage %s has run" if exit_code_file.exists() else "stage %s was up to date", name)


def stage_names(folder: Path, *wanted: str) -> list[str]:
    """Names of stages in dvc.yaml, each after those that it depends on; those of a matrix are expanded.

    Args:
        folder: folder of the checkout.
        wanted: names to keep, without the part from @ on; none for every stage.
    """
    import networkx
    from dvc.repo import Repo

    with Repo(str(folder)) as repo:
        names = [stage.name for stage in reversed(list(networkx.topological_sort(repo.index.graph)))]
    return [name for name in names if not wanted or name.split("@")[0] in wanted]
