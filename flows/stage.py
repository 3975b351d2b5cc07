"""One DVC stage as one Prefect task, in a process group of its own."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

_GRACE_S = 30.0


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
    # A group of its own: DVC does not pass a signal on to the training process it started.
    process = subprocess.Popen([str(dvc), "repro", "--single-item", name], start_new_session=True)
    try:
        with _stop_signals_raise():
            code = process.wait()
    except BaseException:
        _end_group(process)
        raise
    if code:
        raise StageFailedError(f"stage {name} failed with exit code {code}; `dvc repro {name}` shows why")
    get_run_logger().info("stage %s is up to date", name)


@contextmanager
def _stop_signals_raise() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the wait, as Ctrl-C does; by default they would leave the stage running alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    """Ask the whole group to end (the trainer writes its checkpoint), then make it."""
    try:
        os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + _GRACE_S
        while time.monotonic() < deadline:
            process.poll()  # else the dead leader would count as a member of its group
            os.killpg(process.pid, 0)
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # all of it has ended


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
