"""One DVC stage as one Prefect task, in a process group of its own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE


class StageFailedError(RuntimeError):
    """`dvc repro` of a stage ended with a non-zero exit code."""


@task(task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def run_stage(name: str) -> None:
    """Bring one stage up to date; what it prints goes to the terminal and its last lines to the flow's log.

    DVC decides whether there is anything to do, so lineage is the same with and without Prefect.

    Args:
        name: DVC's name of the stage: `probe@random`.

    Raises:
        StageFailedError: the stage failed; its exit code is in the message.
    """
    dvc = Path(sys.executable).with_name("dvc")
    # A group of its own: DVC does not pass a signal on to the training process it started.
    process = subprocess.Popen([str(dvc), "repro", "--single-item", name], start_new_session=True)
    try:
        code = process.wait()
    except BaseException:
        _end_group(process)
        raise
    if code:
        raise StageFailedError(f"stage {name} failed with exit code {code}; `dvc repro {name}` shows why")
    get_run_logger().info("stage %s is up to date", name)


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


def run_stages(*names: str) -> None:
    """Run stages one after the other; DVC's matrix names are matched by their prefix.

    Args:
        names: stages as dvc.yaml names them, in the order of its graph.
    """
    known = stage_names()
    for name in names:
        for full in known:
            if full.split("@")[0] == name:
                run_stage(full)


def stage_names() -> list[str]:
    """Every stage of dvc.yaml, matrix ones expanded, in an order that its graph allows."""
    import networkx
    from dvc.repo import Repo

    with Repo(".") as repo:
        graph = repo.index.graph
        return [stage.addressing for stage in reversed(list(networkx.topological_sort(graph)))]
