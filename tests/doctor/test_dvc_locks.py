import json
import os
import signal
import subprocess
import sys

import pytest

from fusmae.doctor.repository import check_locks
from tests.doctor.conftest import DVC, run

HOLD = """
import sys, time
from dvc.repo import Repo
repo = Repo()
with repo.lock:
    print("held", flush=True)
    time.sleep(600)
"""
USE = """
import time
from dvc.fs import localfs
from dvc.repo import Repo
from dvc.rwlock import rwlock
repo = Repo()
with rwlock(repo.tmp_dir, localfs, "dvc repro", [], [repo.root_dir + "/copied.yaml"], False):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(project):
    """Starts a process that holds a lock of DVC's in the project."""
    started = []

    def start(script):
        process = subprocess.Popen([sys.executable, "-c", script], cwd=project, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


def found_of(name):
    return {finding.name: finding for finding in check_locks()}[name]


def test_without_a_lock_all_is_free(project):
    assert {finding.status for finding in check_locks()} == {"ok"}


def test_a_lock_that_a_running_process_holds_is_named_and_no_mistake(project, holder):
    process = holder(HOLD)
    found = found_of("dvc lock")
    assert (found.status, found.found) == ("ok", f"held by process {process.pid}, which runs")


def test_the_file_that_a_killed_process_leaves_is_free(project, holder):
    kill(holder(HOLD))
    assert (project / ".dvc" / "tmp" / "lock").read_text().strip()
    assert found_of("dvc lock").found == "free"
    run(DVC, "repro")


def test_with_hardlink_locks_the_file_that_a_killed_process_leaves_is_an_error_that_its_command_mends(project, holder):
    run(DVC, "config", "--local", "core.hardlink_lock", "true")
    for path in (project / ".dvc" / "tmp").glob("*lock"):
        path.unlink()  # those of the other kind
    kill(holder(HOLD))
    assert subprocess.run([DVC, "repro"], capture_output=True).returncode
    found = found_of("dvc lock")
    assert found.status == "error"
    subprocess.run(found.mend, shell=True, check=True)
    run(DVC, "repro")
    assert {finding.status for finding in check_locks()} == {"ok"}


def test_a_path_that_a_killed_process_left_in_use_is_a_warning_that_its_command_mends(project, holder):
    process = holder(USE)
    assert found_of("dvc rwlock").found == f"paths in use by process {process.pid}, which runs"
    kill(process)
    found = found_of("dvc rwlock")
    assert found.status == "warning"
    assert f"process {process.pid}, which has ended" in found.found
    assert "copied.yaml" in found.found
    subprocess.run(found.mend, shell=True, check=True)
    assert {finding.status for finding in check_locks()} == {"ok"}


def test_a_process_that_started_after_the_lock_was_written_does_not_hold_it(project):
    later = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    rwlock = project / ".dvc" / "tmp" / "rwlock"
    rwlock.write_text(json.dumps({"write": {"/a": {"pid": later.pid, "cmd": "dvc repro"}}, "read": {}}))
    assert found_of("dvc rwlock").status == "ok"
    os.utime(rwlock, (1, 1))
    assert found_of("dvc rwlock").status == "warning"
    later.communicate(b"\n")


def test_an_rwlock_that_was_cut_off_stops_dvc_and_is_an_error_that_its_command_mends(project):
    (project / ".dvc" / "tmp" / "rwlock").write_text("")
    assert subprocess.run([DVC, "repro"], capture_output=True).returncode
    found = found_of("dvc rwlock")
    assert found.status == "error"
    subprocess.run(found.mend, shell=True, check=True)
    run(DVC, "repro")
