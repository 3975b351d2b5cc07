import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from fusmae.config.task import Task
from fusmae.errors import CheckpointError, StorageError
from fusmae.models.weights import load_weights
from fusmae.training.checkpoint import CARD, WEIGHTS, Checkpoint, load_checkpoint, save_checkpoint
from tests.kinds import TASKS, checkpoint_of
from tests.sections import model_section


@pytest.fixture
def checkpoint(architecture, preprocessing, classes, make_reconstructor) -> Checkpoint:
    weights = make_reconstructor().model.state_dict()
    return Checkpoint(architecture, preprocessing, Task(classes=classes), {"seed": 0, "git": {"commit": None}}, weights)


@pytest.fixture
def saved(checkpoint, tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "checkpoint", checkpoint)
    return tmp_path / "checkpoint"


def test_checkpoint_comes_back_as_it_was_saved(checkpoint, saved):
    found = load_checkpoint(saved)
    assert found.task == checkpoint.task
    assert found.provenance == checkpoint.provenance
    assert found.preprocessing == checkpoint.preprocessing
    assert found.architecture == checkpoint.architecture
    assert list(found.weights) != []
    assert found.weights.keys() == checkpoint.weights.keys()
    for name, tensor in checkpoint.weights.items():
        assert found.weights[name].dtype == tensor.dtype
        assert torch.equal(found.weights[name], tensor)


def test_equal_checkpoints_are_equal_bytes(checkpoint, saved, tmp_path):
    save_checkpoint(tmp_path / "again", checkpoint)
    for name in (CARD, WEIGHTS):
        assert (tmp_path / "again" / name).read_bytes() == (saved / name).read_bytes()


def test_there_is_no_pickle_in_it(saved):
    """Neither a zip, in which torch keeps pickles, nor a pickle's opening or opcode of imports."""
    assert sorted(path.name for path in saved.iterdir()) == [CARD, WEIGHTS]
    for path in saved.iterdir():
        content = path.read_bytes()
        assert not content.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"))
        assert b"data.pkl" not in content
        assert b"ctorch" not in content
    header = (saved / WEIGHTS).read_bytes()
    assert json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])
    assert json.loads((saved / CARD).read_text(encoding="utf-8"))


def test_saving_replaces_what_stood_there(checkpoint, saved):
    save_checkpoint(saved, replace(checkpoint, task=Task(classes=("other",))))
    assert load_checkpoint(saved).task.classes == ("other",)
    assert sorted(path.name for path in saved.parent.iterdir()) == ["checkpoint"]


def test_weights_that_share_memory_or_are_not_contiguous_come_back(checkpoint, tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    save_checkpoint(tmp_path / "c", replace(checkpoint, weights={"t": base.T, "half": base[:, :2]}))
    found = load_checkpoint(tmp_path / "c").weights
    assert torch.equal(found["t"], base.T)
    assert torch.equal(found["half"], base[:, :2])


@pytest.mark.parametrize("name", [CARD, WEIGHTS])
def test_an_absent_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(CheckpointError, match=f"There is no checkpoint in {saved}: {name} is missing"):
        load_checkpoint(saved)


def test_another_format_is_named(saved):
    card = json.loads((saved / CARD).read_text())
    (saved / CARD).write_text(json.dumps(card | {"format": 7}))
    with pytest.raises(CheckpointError, match=r"another format.\n  got:      7\n  expected: 1"):
        load_checkpoint(saved)


def test_a_card_that_is_no_json_is_named(saved):
    (saved / CARD).write_bytes((saved / CARD).read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=r"checkpoint\.json is damaged"):
        load_checkpoint(saved)


@pytest.mark.parametrize("place", [0, 4, 100, -1, -5000])
def test_a_flipped_bit_in_the_weights_is_refused(saved, place):
    content = bytearray((saved / WEIGHTS).read_bytes())
    content[place] ^= 64
    (saved / WEIGHTS).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load_checkpoint(saved)


@pytest.mark.parametrize("size", [0, 5, 2000, -1])
def test_truncated_weights_are_refused(saved, size):
    (saved / WEIGHTS).write_bytes((saved / WEIGHTS).read_bytes()[:size])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load_checkpoint(saved)


def test_weights_of_another_checkpoint_are_refused(checkpoint, saved, tmp_path):
    other = {name: tensor + 1 for name, tensor in checkpoint.weights.items()}
    save_checkpoint(tmp_path / "other", replace(checkpoint, weights=other))
    (tmp_path / "other" / WEIGHTS).replace(saved / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"not the one that checkpoint\.json describes"):
        load_checkpoint(saved)


def test_another_model_is_refused_and_each_key_named_with_got_and_expected(saved):
    assert load_checkpoint(saved, model_section(depth=3)).architecture.depth == 3
    with pytest.raises(CheckpointError) as raised:
        load_checkpoint(saved, model_section(dim=32, depth=3, patch_px=12))
    text = str(raised.value)
    assert f"The checkpoint in {saved} is of another model" in text
    assert "got:      {'patch_px': 8, 'dim': 16}" in text
    assert "expected: {'patch_px': 12, 'dim': 32}" in text


@pytest.mark.parametrize(
    ("change", "got"),
    [
        ({"architecture": None}, "valid dictionary"),
        ({"architecture": {"dim": 16}}, "patch_px"),
        ({"preprocessing": {"inputs": [], "statistics": {"s1": 1}}}, "statistics.s1"),
    ],
)
def test_a_description_that_is_none_is_named_with_what_is_wrong(saved, change, got):
    card = json.loads((saved / CARD).read_text(encoding="utf-8"))
    (saved / CARD).write_text(json.dumps(card | change), encoding="utf-8")
    with pytest.raises(CheckpointError, match=rf"does not describe a model that this build knows[\s\S]*{got}"):
        load_checkpoint(saved)


def test_weights_of_another_size_are_refused_and_leave_the_module_as_it_was():
    module = nn.Linear(2, 3)
    before = module.weight.clone()
    weights = {"weight": torch.zeros(3, 4), "bias": torch.zeros(3)}
    with pytest.raises(CheckpointError, match=r"'weight': '\(3, 4\) for \(3, 2\)'"):
        load_weights(module, weights, "here")
    assert torch.equal(module.weight, before)


def test_missing_and_left_over_weights_are_named():
    with pytest.raises(CheckpointError) as raised:
        load_weights(nn.Linear(2, 3), {"weight": torch.zeros(3, 2), "biass": torch.zeros(3)}, "here")
    assert "'missing': ['bias']" in str(raised.value)
    assert "'left over': ['biass']" in str(raised.value)


def test_a_full_disk_keeps_the_checkpoint_that_stood_there(checkpoint, small_disk):
    folder = small_disk / "models" / "pretrained"
    save_checkpoint(folder, checkpoint)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    big = replace(checkpoint, weights={"w": torch.zeros(2**20)})
    with pytest.raises(StorageError) as raised:
        save_checkpoint(folder, big)
    assert f"The disk is full: {folder} could not be written" in str(raised.value)
    assert f"MB free in {folder.parent}" in str(raised.value)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["pretrained"]
    assert load_checkpoint(folder).weights.keys() == checkpoint.weights.keys()


def test_a_disk_that_is_full_only_for_the_card_keeps_the_checkpoint_that_stood_there(checkpoint, small_disk):
    folder = small_disk / "models" / "pretrained"
    save_checkpoint(folder, checkpoint)
    with pytest.raises(StorageError, match="The disk is full"):
        save_checkpoint(folder, replace(checkpoint, provenance={"note": "x" * 2**21}))
    assert [path.name for path in folder.parent.iterdir()] == ["pretrained"]
    assert load_checkpoint(folder).provenance == checkpoint.provenance


@pytest.mark.parametrize("name", TASKS)
def test_a_predictor_of_each_kind_comes_back_as_it_was_saved(name, preprocessing, tmp_path):
    kept = checkpoint_of(name, preprocessing)
    save_checkpoint(tmp_path / "kept", kept)
    found = load_checkpoint(tmp_path / "kept")
    assert (found.task, found.architecture) == (TASKS[name], kept.architecture)
    assert found.architecture.map_px == (24 if TASKS[name].is_dense else None)
    tiles = {"s1": torch.randn(2, 2, 24, 24), "s2": torch.randn(2, 5, 24, 24)}
    model, other = kept.predictor(), found.predictor()
    assert torch.equal(other.answer(other(tiles)), model.answer(model(tiles)))


def test_a_card_states_classes_alone_where_a_tile_may_have_several_as_older_cards_do(checkpoint, tmp_path):
    save_checkpoint(tmp_path / "older", checkpoint)
    card = json.loads((tmp_path / "older" / CARD).read_text(encoding="utf-8"))
    assert "task" not in card
    assert load_checkpoint(tmp_path / "older").task == checkpoint.task
