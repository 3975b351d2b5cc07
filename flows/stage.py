"""One DVC stage as one Prefect task, in a process group of its own."""

import os
import sys
from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from fusmae.process_group import run_in_group
from fusmae.provenance import FLOW_RUN


class StageFailedError(RuntimeError):
    """`dvc repro` of a stage ended with a non-zero exit code."""


@task(task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def run_stage(name: str) -> None:
    """Bring one stage up to date; what it prints goes to the terminal.

    DVC decides whether there is anything to do, so lineage is the same with and without Prefect.

    Args:
        name: DVC's name of the stage: `probe@random`.

    Raises:
        StageFailedError: the stage failed; its exit code is in the message.
    """
    dvc = Path(sys.executable).with_name("dvc")
    code = run_in_group(
        [str(dvc), "repro", "--single-item", name], environment={**os.environ, FLOW_RUN: str(flow_run.get_id() or "")}
    )
    if code:
        raise StageFailedError(f"stage {name} failed with exit code {code}; `dvc repro {name}` shows why")
    get_run_logger().info("stage %s is up to date", name)


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
