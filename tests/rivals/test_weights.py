"""Files of weights: as published, and ones that are refused."""

import os
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fusmae.errors import CheckpointError
from fusmae.rivals.backbones import CopernicusFM, Croma, Dofa, Rival
from tests.rivals.tiles import make


class Some(Rival):
    name = "some_base"
    optional = ("1.",)
    ignored = ("mask_token",)
    published = "Some_Weights"

    def __init__(self, module: nn.Module) -> None:
        nn.Module.__init__(self)
        self.backbone = module

    def _features(self, tiles):
        raise NotImplementedError


def backbone(value: float = 0.0) -> nn.Module:
    made = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    nn.init.constant_(made[0].weight, value)
    return made


def load(path, into=None):
    Some(into or backbone()).load(path)


def in_parts(state):
    """CROMA's: a state dict for each part, and no ALiBi."""
    parts = {}
    for name, tensor in state.items():
        part, _, inner = name.partition(".")
        if inner:
            parts.setdefault(part, {})[inner] = tensor
    assert parts.keys() == {"s1_encoder", "s1_GAP_FFN", "s2_encoder", "s2_GAP_FFN", "joint_encoder"}
    return parts


def of_pretraining(state):
    """DOFA's: a decoder's mask token, another norm than that of pooled features."""
    kept = {name: tensor for name, tensor in state.items() if not name.startswith("fc_norm.")}
    return kept | {name: torch.zeros(768) for name in ("mask_token", "norm.weight", "norm.bias", "projector.bias")}


def under_model(state):
    """Copernicus-FM's: as DOFA's, under a key of its own."""
    kept = {name: tensor for name, tensor in of_pretraining(state).items() if not name.startswith("projector.")}
    return {"model": kept, "epoch": 100}


@pytest.mark.parametrize(
    ("kind", "published"), [(Croma, in_parts), (Dofa, of_pretraining), (CopernicusFM, under_model)]
)
def test_the_file_fits_the_base_model_as_it_is_published(monkeypatch, tmp_path, pixels, kind, published):
    path = tmp_path / "published.pth"
    path.touch()
    source, rival = make(kind.name), make(kind.name, seed=1)
    # Not through a file: it has hundreds of megabytes.
    monkeypatch.setattr(torch, "load", lambda *_, **__: published(source.backbone.state_dict()))
    rival.load(path)
    for name, tensor in source.backbone.state_dict().items():
        assert torch.equal(rival.backbone.state_dict()[name], tensor), name
    assert rival.features(pixels, ("s1", "s2")).shape == (2, 768)


def test_safetensors_are_read(tmp_path):
    save_file(backbone(5.0).state_dict(), tmp_path / "weights.safetensors")
    made = backbone()
    load(tmp_path / "weights.safetensors", made)
    assert (made[0].weight == 5.0).all()


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"no file of weights .*none\.pth(.|\n)*next: .*Some_Weights"):
        load(tmp_path / "none.pth")


def test_another_kind_of_file_is_refused(tmp_path):
    (tmp_path / "weights.onnx").touch()
    with pytest.raises(CheckpointError, match=r"weights\.onnx(.|\n)*got: +\.onnx(.|\n)*expected: .*\.pth"):
        load(tmp_path / "weights.onnx")


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("content", [b"", b"<html>not found</html>"])
def test_a_damaged_file_is_refused(tmp_path, suffix, content):
    path = tmp_path / f"weights.{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"weights\.{suffix} is damaged(.|\n)*got:(.|\n)*expected:(.|\n)*next:"):
        load(path)


def test_weights_of_another_model_are_refused_and_not_loaded(tmp_path):
    state = backbone(5.0).state_dict()
    torch.save({"0.weight": state["0.weight"].T.contiguous(), "decoder": state["0.bias"]}, tmp_path / "other.pth")
    made = backbone()
    with pytest.raises(CheckpointError, match=r"other\.pth do not fit some_base") as caught:
        load(tmp_path / "other.pth", made)
    text = str(caught.value)
    assert "'missing': ['0.bias'], 'left over': ['decoder']" in text
    assert "'0.weight': '(3, 2) for (2, 3)'" in text
    assert "Some_Weights" in text
    assert (made[0].weight == 0).all()


@pytest.mark.parametrize("value", [torch.zeros(2), {}, {"0.weight": [1.0]}])
def test_what_is_no_state_dict_is_refused(tmp_path, value):
    torch.save(value, tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match="holds no state dict"):
        load(tmp_path / "weights.pt")


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, protocol=2))])
def test_a_pickle_of_a_foreign_class_is_refused_and_runs_nothing(tmp_path, write):
    write({"0.weight": Payload(tmp_path / "ran")}, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=r"weights\.pth is damaged, or holds more than tensors"):
        load(tmp_path / "weights.pth")
    assert not (tmp_path / "ran").exists()
