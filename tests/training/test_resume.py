"""A run that is cut off goes on to the very weights of one that never was."""

import os
import signal
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException

from fusmae.errors import StorageError
from tests.training.cut import CutError, CutOff

AUGMENT = {"flip": True, "turn": True, "min_crop": 0.8}


class CutOffInValidation(Callback):
    """Ends it between two epochs."""

    def on_validation_batch_start(self, trainer, module, batch, batch_idx, dataloader_idx=0) -> None:
        raise CutError


def assert_equal_weights(a: torch.nn.Module, b: torch.nn.Module) -> None:
    expected = b.state_dict()
    differing = [name for name, tensor in a.state_dict().items() if not torch.equal(tensor, expected[name])]
    assert differing == []


KINDS = {
    "make_reconstructor": {"augment": AUGMENT, "modality_drop": 0.3},
    "make_finetuner": {"augment": AUGMENT, "modality_drop": 0.5},
}


@pytest.fixture(params=KINDS)
def kind(request):
    """A module's factory, and its data's; both draw augmentation and modality drop, finetuning drop path, too."""
    make_data = request.getfixturevalue("make_data")
    return request.getfixturevalue(request.param), lambda: make_data(**KINDS[request.param])


# Four steps an epoch, three epochs. Checkpoints in mid-epoch, at its very end, and at each step.
@pytest.mark.parametrize(("every", "cut"), [(3, 5), (3, 11), (4, 6), (1, 4)])
def test_a_run_cut_off_in_mid_epoch_ends_with_the_weights_of_an_undisturbed_one(kind, tmp_path, train, every, cut):
    make_module, make_data = kind
    undisturbed = make_module()
    train(undisturbed, make_data(), tmp_path / "a", every=every)
    cut_off = make_module()
    with pytest.raises(CutError):
        train(cut_off, make_data(), tmp_path / "b", CutOff(cut), every=every)
    kept = torch.load(tmp_path / "b" / "last.ckpt", weights_only=True)
    assert kept["global_step"] == cut // every * every
    resumed = make_module()
    steps = []

    class Count(Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
            steps.append((trainer.current_epoch, batch_idx))

    trainer = train(resumed, make_data(), tmp_path / "b", Count(), every=every)
    assert trainer.global_step == 12
    first = cut // every * every
    assert steps == [(step // 4, step % 4) for step in range(first, 12)]
    assert_equal_weights(resumed, undisturbed)


def test_a_run_cut_off_twice_and_in_validation_ends_alike(kind, tmp_path, train):
    make_module, make_data = kind
    undisturbed, resumed = make_module(), make_module()
    train(undisturbed, make_data(), tmp_path / "a")
    with pytest.raises(CutError):
        train(make_module(), make_data(), tmp_path / "b", CutOffInValidation())
    with pytest.raises(CutError):
        train(make_module(), make_data(), tmp_path / "b", CutOff(7))
    train(resumed, make_data(), tmp_path / "b")
    assert_equal_weights(resumed, undisturbed)


def test_another_seed_ends_with_other_weights(kind, tmp_path, train):
    """Were the draws not used, the tests above would say nothing."""
    make_module, make_data = kind
    first, second = make_module(), make_module()
    train(first, make_data(), tmp_path / "a", epochs=1)
    train(second, make_data(), tmp_path / "b", epochs=1, seed=1)
    is_drop_path_drawn = any(
        not torch.equal(tensor, second.state_dict()[name]) for name, tensor in first.state_dict().items()
    )
    assert is_drop_path_drawn == (type(first).__name__ == "Finetuner")


def test_a_finished_run_trains_no_further(make_reconstructor, make_data, tmp_path, train):
    module, again = make_reconstructor(), make_reconstructor()
    train(module, make_data(), tmp_path, every=4)
    train(again, make_data(), tmp_path, every=4)
    assert_equal_weights(again, module)


def test_workers_change_no_weight(make_reconstructor, make_data, tmp_path, train):
    settings = KINDS["make_reconstructor"]
    alone, helped = make_reconstructor(), make_reconstructor()
    train(alone, make_data(**settings), tmp_path / "a", epochs=2)
    train(helped, make_data(num_workers=2, **settings), tmp_path / "b", epochs=2)
    assert_equal_weights(helped, alone)


def test_scratch_holds_the_last_checkpoint_and_nothing_else(make_reconstructor, make_data, tmp_path, train):
    train(make_reconstructor(), make_data(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 12


class FillDisk(Callback):
    """Leaves too little room before one step."""

    def __init__(self, step: int, disk: Path) -> None:
        self.step, self.disk = step, disk

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        if trainer.global_step == self.step:
            with (self.disk / "filler").open("wb", buffering=0) as file, suppress(OSError):
                while True:
                    file.write(b"0" * 4096)


def test_a_full_disk_keeps_the_checkpoint_before_and_the_run_goes_on_from_it(
    make_reconstructor, make_data, small_disk, tmp_path, train, monkeypatch
):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    scratch = small_disk / "scratch"

    def make():
        """Small enough for two checkpoints on the disk."""
        return make_reconstructor(depth=2, early_fusion=False, feature_fusion=False)

    undisturbed, resumed = make(), make()
    train(undisturbed, make_data(), tmp_path / "a")
    with pytest.raises(StorageError) as raised:
        train(make(), make_data(), scratch, FillDisk(4, small_disk))
    assert f"The disk is full: {scratch / 'last.ckpt'} could not be written" in str(raised.value)
    assert f"MB free in {scratch}" in str(raised.value)
    assert [path.name for path in scratch.iterdir()] == ["last.ckpt"]
    assert list(temporary.iterdir()) == []
    assert torch.load(scratch / "last.ckpt", weights_only=True)["global_step"] == 3
    (small_disk / "filler").unlink()
    train(resumed, make_data(), scratch)
    assert_equal_weights(resumed, undisturbed)


def test_checkpoints_do_not_need_room_in_the_temporary_folder(
    make_reconstructor, make_data, small_disk, tmp_path, train, monkeypatch
):
    (small_disk / "filler").write_bytes(b"0" * (2**20 - 8192))
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    train(make_reconstructor(), make_data(), tmp_path / "a", epochs=1)
    assert (tmp_path / "a" / "last.ckpt").stat().st_size > 8192


class Terminate(Callback):
    """Sends this process SIGTERM in step `step`, as a scheduler does before it kills."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("step", [4, 5, 7])
def test_sigterm_writes_a_checkpoint_of_the_step_it_came_in(kind, tmp_path, train, step):
    make_module, make_data = kind
    undisturbed = make_module()
    train(undisturbed, make_data(), tmp_path / "a")
    with pytest.raises(SIGTERMException):
        train(make_module(), make_data(), tmp_path / "b", Terminate(step), every=1000)
    assert torch.load(tmp_path / "b" / "last.ckpt", weights_only=True)["global_step"] == step + 1
    resumed = make_module()
    train(resumed, make_data(), tmp_path / "b", every=1000)
    assert_equal_weights(resumed, undisturbed)
