"""Folders in the form of the Hugging Face hub: from a checkpoint and back, to the bit, by no network."""

import json
import socket

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from timm.models._features import FeatureGetterNet

import fusmae
from fusmae.config.task import Task
from fusmae.errors import CheckpointError
from fusmae.release.hub import PretrainedEncoder
from fusmae.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tests.sections import architecture_of

PROVENANCE = {"data": "sample: CDLA-Permissive-1.0.", "stage": "finetune", "seed": 3, "git": {"commit": "c0ffee"}}


@pytest.fixture(scope="module")
def folder(exported, tmp_path_factory):
    """A finetuned checkpoint with the weights of the exported graph."""
    preprocessing, weights = exported.preprocess.preprocessing, exported.classifier.state_dict()
    start = Checkpoint(architecture_of(preprocessing), preprocessing, Task(), {}, {})
    path = tmp_path_factory.mktemp("hub") / "finetuned"
    save_checkpoint(path, start.with_head("mean", Task(classes=("a", "b", "c")), PROVENANCE, weights))
    return path


@pytest.fixture
def encoder(folder):
    return PretrainedEncoder.from_pretrained(folder)


@pytest.fixture
def pixels(exported):
    return {name: torch.from_numpy(array) for name, array in exported.pixels(3).items()}


@pytest.fixture(autouse=True)
def without_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_a_checkpoint_goes_to_a_hub_folder_and_back_to_the_bit(tmp_path, folder, encoder):
    encoder.save_pretrained(tmp_path / "hub")
    again = PretrainedEncoder.from_pretrained(tmp_path / "hub")
    save_checkpoint(tmp_path / "back", again.checkpoint)
    for name in ("model.safetensors", "checkpoint.json"):
        assert (tmp_path / "back" / name).read_bytes() == (folder / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "hub").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "hub"]


def test_a_hub_folder_is_taken_wherever_a_checkpoint_s_is(tmp_path, folder, encoder, exported):
    encoder.save_pretrained(tmp_path)
    pixels = exported.pixels(2)
    s1 = {10: pixels["s1_10m"]}
    assert (fusmae.load(tmp_path).embed(s1=s1) == fusmae.load(folder).embed(s1=s1)).all()
    classifier = load_checkpoint(tmp_path).predictor()
    assert all(torch.equal(one, exported.classifier.state_dict()[key]) for key, one in classifier.state_dict().items())


def test_the_module_gives_the_features_of_the_checkpoint(folder, encoder, pixels):
    expected = fusmae.load(folder).embed(s1={10: pixels["s1_10m"]}, s2={10: pixels["s2_10m"], 20: pixels["s2_20m"]})
    assert torch.equal(encoder(pixels), expected)
    assert encoder.forward_features(pixels).shape == (3, 1 + 18, encoder.num_features)


def test_timm_s_wrapper_takes_the_module(encoder, pixels):
    wrapped = FeatureGetterNet(encoder, out_indices=[0, 1])
    maps = wrapped({name: array for name, array in pixels.items() if name.startswith("s2")})
    assert [tuple(found.shape) for found in maps] == [(3, 16, 3, 3)] * 2
    assert wrapped.feature_info.channels() == [16, 16]


def test_an_encoder_that_was_trained_on_is_saved_without_the_head_that_no_longer_fits(tmp_path, encoder, pixels):
    encoder.requires_grad_().train()
    encoder(pixels).square().mean().backward()
    with torch.no_grad():
        for parameter in encoder.encoder.parameters():
            parameter -= 0.01 * parameter.grad
    encoder.eval().save_pretrained(tmp_path / "hub")
    again = PretrainedEncoder.from_pretrained(tmp_path / "hub")
    assert torch.equal(again(pixels), encoder(pixels))
    assert again.checkpoint.task.classes == ()
    assert all(name.startswith("encoder.") for name in load_file(tmp_path / "hub" / "model.safetensors"))
    assert "trained on outside" in (tmp_path / "hub" / "README.md").read_text(encoding="utf-8")
    with pytest.raises(CheckpointError, match="has no head"):
        again.checkpoint.predictor()


def test_the_card_has_the_hub_s_metadata_and_says_what_the_model_takes(tmp_path, encoder):
    encoder.save_pretrained(tmp_path, model_card_kwargs={"license": "apache-2.0"})
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.library_name == "fusmae"
    assert card.data.license == "apache-2.0"
    assert {"sentinel-1", "sentinel-2", "model_hub_mixin"} <= set(card.data.tags)
    for line in ("| s1_10m | 10 | 24 | dB | VV, VH |", "sample: CDLA-Permissive-1.0.", "c0ffee", "pooled by `mean`"):
        assert line in card.text


def test_what_is_in_the_folder_beside_the_model_stays(tmp_path, encoder):
    (tmp_path / "README.md").write_text("my own card", encoding="utf-8")
    (tmp_path / ".git").mkdir()
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    encoder.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == "my own card"
    assert (tmp_path / ".git").is_dir()
    assert PretrainedEncoder.from_pretrained(tmp_path).checkpoint.task.classes == ("a", "b", "c")


def test_a_failure_leaves_what_stood_there(tmp_path, encoder, monkeypatch):
    encoder.save_pretrained(tmp_path / "hub")
    before = {path.name: path.read_bytes() for path in (tmp_path / "hub").iterdir()}

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fusmae.release.hub.fill", fail)
    with pytest.raises(OSError, match="No space"):
        encoder.save_pretrained(tmp_path / "hub")
    assert {path.name: path.read_bytes() for path in (tmp_path / "hub").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["hub"]


def test_a_name_on_the_hub_is_not_downloaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"no folder someone/model(?s:.*)hf download someone/model --local-dir"):
        PretrainedEncoder.from_pretrained("someone/model")


@pytest.mark.parametrize("damage", ["weights", "config", "pickle"])
def test_a_damaged_folder_is_refused(tmp_path, encoder, damage):
    encoder.save_pretrained(tmp_path)
    if damage == "weights":
        with (tmp_path / "model.safetensors").open("r+b") as file:
            file.seek(-4, 2)
            file.write(b"\0\0\0\0")
    elif damage == "config":
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}), encoding="utf-8")
    else:
        (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError):
        PretrainedEncoder.from_pretrained(tmp_path)
