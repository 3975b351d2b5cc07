"""What a flow learns of how a stage ended."""

import errno
import os
import signal
import subprocess
import sys
import time

import pytest
import requests
import torch
from filelock import Timeout
from lightning.pytorch.utilities.exceptions import SIGTERMException
from sqlalchemy.exc import OperationalError

from fusmae.errors import ConfigError, RegistryError, SourceError, TrainingError
from fusmae.files import storage_error
from fusmae.runs.exit_code import EXIT_CODE_FILE, TEMPORARY, TOLD_TO_END, exit_code, is_worth_another_try
from fusmae.sources.transfer.server import DroppedError, RefusedError

FULL = OSError(errno.ENOSPC, "No space left on device")


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        FULL,
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: 4096 bytes"),
        RuntimeError("could not create a primitive"),
        ConnectionRefusedError(),
        requests.exceptions.ConnectionError(),
        requests.exceptions.ReadTimeout(),
        OperationalError("select", {}, Exception("the database is starting up")),
        Timeout("a.lock"),
        caused(RegistryError("MLflow does not answer"), requests.exceptions.ConnectionError()),
        caused(SourceError("could not be downloaded"), DroppedError("reset")),
        caused(SourceError("could not be downloaded"), caused(RefusedError("5 times"), DroppedError("reset"))),
    ],
)
def test_what_passes_has_an_exit_code_of_its_own(error):
    assert exit_code(error) == TEMPORARY


def test_what_torch_says_without_memory_passes():
    with pytest.raises(RuntimeError) as failed:
        torch.empty(2**60, dtype=torch.uint8)
    assert exit_code(failed.value) == TEMPORARY


def test_a_full_disk_passes_and_a_folder_without_permission_does_not(tmp_path):
    for number, expected in ((errno.ENOSPC, TEMPORARY), (errno.EACCES, 1)):
        cause = OSError(number, "said")
        assert exit_code(caused(storage_error(tmp_path / "x", cause), cause)) == expected


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("wrong"),
        ValueError("wrong"),
        RuntimeError("shapes"),
        RegistryError("no such model"),
        TrainingError("the loss is infinite"),
    ],
)
def test_what_would_fail_again_ends_with_1(error):
    assert exit_code(error) == 1


def test_exits_keep_their_code_and_lightnings_end_on_sigterm_is_none_of_success():
    assert [exit_code(SystemExit(code)) for code in (None, 0, 3, "text")] == [0, 0, 3, 1]
    assert exit_code(SIGTERMException()) == TOLD_TO_END


@pytest.mark.parametrize(
    ("noted", "expected"), [("begun", True), ("75", True), ("143", True), ("1", False), ("0", False)]
)
def test_only_what_was_cut_off_or_passes_is_worth_another_try(tmp_path, noted, expected):
    file = tmp_path / "exit-code"
    file.write_text(noted)
    assert is_worth_another_try(file) == expected


def test_a_stage_that_never_began_is_not_tried_again(tmp_path):
    assert not is_worth_another_try(tmp_path / "absent")


def run(tmp_path, script):
    file = tmp_path / "exit-code"
    environment = {**os.environ, EXIT_CODE_FILE: str(file)}
    return subprocess.Popen([sys.executable, "-c", script], env=environment, cwd=tmp_path), file


def test_the_command_line_notes_its_exit_code(tmp_path):
    process, file = run(tmp_path, "from fusmae.cli import main; main(['summary', '--no-such-option'])")
    assert process.wait(60) == 2
    assert file.read_text() == "2"
    assert not is_worth_another_try(file)


def test_a_killed_command_leaves_that_it_began(tmp_path):
    process, file = run(
        tmp_path, "import time; from fusmae.runs.exit_code import note_begin; note_begin(); time.sleep(60)"
    )
    ends = time.monotonic() + 30
    while not file.exists() and time.monotonic() < ends:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    assert is_worth_another_try(file)
