"""Checkpoints that would run something when they are read: refused, and nothing runs."""

import json
import os
import pickle
from pathlib import Path

import pytest
import torch

from fusmae.config.task import Task
from fusmae.errors import CheckpointError
from fusmae.files import file_sha256
from fusmae.training.checkpoint import CARD, WEIGHTS, Checkpoint, load_checkpoint, save_checkpoint


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def as_pickle(path: Path, mark: Path) -> None:
    path.write_bytes(pickle.dumps(Payload(mark)))


def as_torch_saves(path: Path, mark: Path) -> None:
    torch.save({"state_dict": {"weight": torch.zeros(2)}, "extra": Payload(mark)}, path)


def as_torch_saved_of_old(path: Path, mark: Path) -> None:
    torch.save({"extra": Payload(mark)}, path, _use_new_zipfile_serialization=False)


KINDS = [as_pickle, as_torch_saves, as_torch_saved_of_old]


@pytest.mark.parametrize("write", KINDS)
def test_the_payload_runs_where_nobody_refuses_it(tmp_path, write):
    write(tmp_path / "file", tmp_path / "ran")
    if write is as_pickle:
        pickle.loads((tmp_path / "file").read_bytes())
    else:
        torch.load(tmp_path / "file", weights_only=False)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("write", KINDS)
def test_a_pickle_by_the_name_of_safetensors_is_refused_even_with_its_checksum(
    tmp_path, architecture, preprocessing, write
):
    folder = tmp_path / "checkpoint"
    save_checkpoint(folder, Checkpoint(architecture, preprocessing, Task(), {}, {"weight": torch.zeros(2)}))
    write(folder / WEIGHTS, tmp_path / "ran")
    card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    (folder / CARD).write_text(json.dumps(card | {"sha256": file_sha256(folder / WEIGHTS)}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged"):
        load_checkpoint(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("forced", ["", "1"])
@pytest.mark.parametrize("write", KINDS)
def test_a_resume_checkpoint_that_would_run_something_is_refused(
    tmp_path, monkeypatch, make_reconstructor, make_data, train, write, forced
):
    """Not even a variable that turns torch's protection off helps: the trainer asks for it by itself."""
    if forced:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", forced)
    (tmp_path / "scratch").mkdir()
    write(tmp_path / "scratch" / "last.ckpt", tmp_path / "ran")
    with pytest.raises((pickle.UnpicklingError, CheckpointError), match=r"(?i)weights.only|resume"):
        train(make_reconstructor(), make_data(), tmp_path / "scratch")
    assert not (tmp_path / "ran").exists()
