"""A Dask cluster of others: a scheduler and two workers as processes of their own."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

DASK = (sys.executable, "-m", "dask")


@dataclass(frozen=True)
class ForeignCluster:
    """Where it is, and its processes."""

    address: str
    processes: tuple["subprocess.Popen[bytes]", ...]


def start_scheduler(file: Path) -> "subprocess.Popen[bytes]":
    options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
    return subprocess.Popen([*DASK, "scheduler", *options], stderr=subprocess.DEVNULL)


def address_in(file: Path) -> str:
    deadline = time.monotonic() + 60
    while not (file.exists() and file.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.1)
    return json.loads(file.read_text())["address"]


@pytest.fixture
def foreign_cluster(tmp_path):
    file = tmp_path / "scheduler" / "scheduler.json"
    file.parent.mkdir()
    started = [start_scheduler(file)]
    try:
        for _ in range(2):
            options = ["--scheduler-file", str(file), "--nthreads", "1", "--no-dashboard"]
            started.append(subprocess.Popen([*DASK, "worker", *options], cwd=file.parent, stderr=subprocess.DEVNULL))
        yield ForeignCluster(address_in(file), tuple(started))
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(30)
