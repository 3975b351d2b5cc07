"""A command and all that it starts end together, however its starter ends."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from fusmae.runs.process_group import run_in_group

# A command as DVC is one: it starts a child and dies of SIGTERM without telling it.
STARTS_A_CHILD = "sh -c 'sleep 600 & echo $! > child; wait'"
STARTER = f"""
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are born deaf to it
from fusmae.runs.process_group import run_in_group
run_in_group(["sh", "-c", {STARTS_A_CHILD!r}], folder=Path(sys.argv[1]))
"""


def wait_for(condition, seconds=30):
    ends = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < ends, "it did not happen"
        time.sleep(0.05)
    return found


def is_running(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
def test_children_of_the_command_end_when_its_starter_is_ended_or_killed(tmp_path, number):
    starter = subprocess.Popen([sys.executable, "-c", STARTER, str(tmp_path)])
    noted = tmp_path / "child"
    child = int(wait_for(lambda: noted.exists() and noted.read_text().strip()))
    assert is_running(child)
    starter.send_signal(number)
    assert starter.wait(30)
    wait_for(lambda: not is_running(child))


def test_the_exit_code_is_the_commands():
    assert run_in_group([sys.executable, "-c", "import sys; sys.exit(75)"]) == 75
    assert run_in_group(["sh", "-c", "true"]) == 0


def test_a_command_that_was_killed_has_the_signal_in_its_exit_code():
    assert run_in_group(["sh", "-c", "kill -9 $$"]) == 128 + 9


def test_the_command_hears_sigterm_and_gets_no_input(tmp_path):
    told = tmp_path / "told"
    script = f"trap 'echo told > {told}; exit 3' TERM; read line || echo none > {tmp_path}/input; sleep 600 & wait"
    starter = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"from fusmae.runs.process_group import run_in_group; run_in_group(['sh', '-c', {script!r}])",
        ],
        stdin=subprocess.DEVNULL,
    )
    wait_for((tmp_path / "input").exists)
    time.sleep(0.3)
    os.kill(starter.pid, signal.SIGTERM)
    assert starter.wait(30)
    assert told.read_text() == "told\n"
