from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from fusmae.training import trainer
from fusmae.training.trainer import History
from tests.training.cut import CutError, CutOff


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""
    found = SimpleNamespace(now=100.0)
    monkeypatch.setattr(trainer, "time", SimpleNamespace(perf_counter=lambda: found.now))
    return found


def test_every_logged_number_is_kept_by_epoch(make_reconstructor, make_data, tmp_path, train):
    found, seen = History(), []

    class Look(Callback):
        def on_train_epoch_end(self, trainer, module) -> None:
            seen.append({name: value.item() for name, value in trainer.callback_metrics.items()})

    train(make_reconstructor(), make_data(), tmp_path, Look(), epochs=2, watching=[found])
    names = {f"{split}/{name}" for split in ("train", "validation") for name in ("loss", "loss_s1", "loss_s2")}
    assert found.points.keys() == names
    for name in names:
        assert found.points[name] == [(0.0, seen[0][name]), (1.0, seen[1][name])]
    assert len({value for points in found.points.values() for _, value in points}) > len(names)


def test_pairs_are_those_that_were_trained_on(make_reconstructor, make_data, tmp_path, train):
    found = History()
    train(make_reconstructor(), make_data(), tmp_path, epochs=2, watching=[found])
    assert found.pairs == 2 * 4 * 4


def test_waiting_for_a_batch_counts_and_validation_does_not(clock):
    found, batch = History(), SimpleNamespace(indices=torch.arange(4))
    trainer = SimpleNamespace(callback_metrics={}, current_epoch=0)
    for wait, work in ((5, 1), (2, 1)):
        clock.now += wait
        found.on_train_batch_start(trainer, None, batch, 0)
        clock.now += work
        found.on_train_batch_end(trainer, None, None, batch, 0)
    # What comes before the first batch of a session or an epoch is not training.
    assert found.seconds == 1 + 2 + 1
    found.on_train_epoch_end(trainer, None)
    clock.now += 1000
    found.on_train_batch_start(trainer, None, batch, 0)
    clock.now += 3
    found.on_train_batch_end(trainer, None, None, batch, 0)
    assert found.seconds == 4 + 3


# Checkpoints in mid-epoch, and at an epoch's last step.
@pytest.mark.parametrize(("every", "cut"), [(3, 5), (3, 11), (4, 6), (1, 8)])
def test_points_and_pairs_go_on_after_a_restart(make_reconstructor, make_data, tmp_path, train, every, cut):
    undisturbed, first, found = History(), History(), History()
    train(make_reconstructor(), make_data(), tmp_path / "a", every=every, watching=[undisturbed])
    with pytest.raises(CutError):
        train(make_reconstructor(), make_data(), tmp_path / "b", CutOff(cut), every=every, watching=[first])
    train(make_reconstructor(), make_data(), tmp_path / "b", every=every, watching=[found])
    assert found.pairs == undisturbed.pairs == 48
    assert found.points.keys() == undisturbed.points.keys()
    for name, points in undisturbed.points.items():
        assert [epoch for epoch, _ in found.points[name]] == [0, 1, 2]
        if name.startswith("validation"):
            assert found.points[name] == points
    assert found.seconds > 0


def test_its_state_is_plain_numbers():
    found, again = History(), History()
    found.points, found.seconds, found.pairs = {"train/loss": [(0.0, 1.5)]}, 2.5, 8
    again.load_state_dict(found.state_dict())
    assert again.state_dict() == {"points": {"train/loss": [(0.0, 1.5)]}, "seconds": 2.5, "pairs": 8}
