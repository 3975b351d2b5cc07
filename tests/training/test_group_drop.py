"""A hidden resolution group never reaches the encoder, and is still a target; without the setting nothing changes."""

from dataclasses import replace

import pytest
import torch

from fusmae.config.task import Task
from fusmae.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

HIDDEN = ("s2_20m",)


@pytest.fixture
def batch(make_data):
    return make_data().first("train", 4)


def changed(batch):
    """The same batch with other pixels in the hidden array."""
    other = batch.pixels["s2_20m"].float() * 0.5 + 300
    return batch._replace(pixels=batch.pixels | {"s2_20m": other.to(batch.pixels["s2_20m"].dtype)})


def test_hidden_pixels_change_targets_and_no_prediction(make_reconstructor, batch):
    module = make_reconstructor().eval()
    found = []
    for one in (batch, changed(batch)):
        tiles, masks = module.masked(one)
        seen = module.seen(tiles, one._replace(lacking=HIDDEN))
        found.append(module.model(seen, masks, truth=tiles)["s2"])
    assert torch.equal(found[0].pred, found[1].pred)
    assert not torch.equal(found[0].target, found[1].target)


def test_the_loss_depends_on_what_is_hidden_and_not_where_nothing_is(make_reconstructor, batch, monkeypatch):
    module = make_reconstructor().eval()
    monkeypatch.setattr(module, "log_loss", lambda *_: None)
    plain, hidden = (module.loss_of(one, "train", 0) for one in (batch, batch._replace(lacking=HIDDEN)))
    assert not torch.equal(plain, hidden)
    assert torch.equal(plain, module.loss_of(batch._replace(lacking=()), "train", 0))


def test_a_classifier_does_not_see_hidden_groups(make_finetuner, batch, monkeypatch):
    module = make_finetuner().eval()
    monkeypatch.setattr(module, "log_loss", lambda *_: None)
    losses = [module.loss_of(one._replace(lacking=HIDDEN), "validation", 0) for one in (batch, changed(batch))]
    assert torch.equal(*losses)


def test_a_checkpoint_keeps_whether_groups_may_be_missing_and_earlier_ones_need_all(
    architecture, preprocessing, tmp_path
):
    checkpoint = Checkpoint(architecture, preprocessing, Task(), {}, {"cls": torch.zeros(1)})
    lenient = preprocessing.model_copy(update={"may_lack_groups": True})
    save_checkpoint(tmp_path / "new", replace(checkpoint, preprocessing=lenient))
    assert load_checkpoint(tmp_path / "new").preprocessing.may_lack_groups
    save_checkpoint(tmp_path / "plain", checkpoint)
    assert "may_lack_groups" not in (tmp_path / "plain" / "checkpoint.json").read_text(encoding="utf-8")
    assert not load_checkpoint(tmp_path / "plain").preprocessing.may_lack_groups
