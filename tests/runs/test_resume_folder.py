"""Folders that training goes on from: one process each, gone when done, kept when cut off."""

import os
import time

import pytest

from fusmae.errors import TrainingError
from fusmae.runs.exit_code import TEMPORARY, exit_code
from fusmae.runs.resume_folder import RESUME_ROOT, resume_folder

A, B = "a" * 16, "b" * 16


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(RESUME_ROOT, raising=False)


def cut_off(key):
    run = resume_folder("pretrain", key)
    folder = run.__enter__()
    (folder / "last.ckpt").write_text(key)
    error = KeyboardInterrupt()
    assert not run.__exit__(type(error), error, None)
    return folder


def test_what_a_cut_off_run_left_is_there_for_the_next_and_gone_when_it_is_done():
    cut_off(A)
    with resume_folder("pretrain", A) as folder:
        assert (folder / "last.ckpt").read_text() == A
    assert list(folder.parent.iterdir()) == []


def test_a_second_process_at_the_same_run_is_told_to_come_again():
    with resume_folder("pretrain", A):
        second = resume_folder("pretrain", A)
        with pytest.raises(TrainingError, match="Another process works on the same run") as error:
            second.__enter__()
        assert exit_code(error.value) == TEMPORARY


def test_by_hand_what_other_parameters_left_is_removed_unless_it_runs():
    left = cut_off(B)
    with resume_folder("pretrain", A):
        pass
    assert not left.exists()
    with resume_folder("pretrain", B) as running, resume_folder("pretrain", A):
        pass
    assert not running.exists()  # its own end removed it, and found it there


def test_in_a_shared_folder_other_runs_are_kept_for_a_month(tmp_path, monkeypatch):
    monkeypatch.setenv(RESUME_ROOT, str(tmp_path / "shared"))
    left = cut_off(B)
    with resume_folder("pretrain", A):
        pass
    assert (left / "last.ckpt").exists()
    month_ago = time.time() - 31 * 86_400
    os.utime(left, (month_ago, month_ago))
    with resume_folder("pretrain", A):
        pass
    assert not left.exists()
