"""A graph may keep weights beside it; none outside of its folder is ever read."""

import re
from pathlib import Path

import onnx
import pytest

from fusmae.errors import ExportError
from fusmae.inference.session import Session
from fusmae.release.export.onnx_file import write_graph

OUTSIDE = "keeps weights in a file outside of its folder"


def with_external_data(exported, folder: Path, location: str, **stated: int) -> Path:
    """The exported graph with its largest weight in another file."""
    folder.mkdir(parents=True, exist_ok=True)
    model = onnx.load(exported.path)
    weight = max(model.graph.initializer, key=lambda item: len(item.raw_data))
    entries = {"location": location, "length": len(weight.raw_data)} | stated
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    for key, value in entries.items():
        weight.external_data.add(key=key, value=str(value))
    write_graph(model, folder / "model.onnx")
    return folder / "model.onnx"


@pytest.fixture
def secret(exported, tmp_path) -> Path:
    """A file outside of the model's folder, with bytes that would do as weights."""
    model = onnx.load(exported.path)
    (tmp_path / "secret").write_bytes(max((item.raw_data for item in model.graph.initializer), key=len))
    (tmp_path / "models" / "one").mkdir(parents=True)
    (tmp_path / "models" / "file-link").symlink_to(tmp_path / "secret")
    return tmp_path / "secret"


def test_weights_in_the_folder_of_the_graph_are_read(exported, secret):
    folder = secret.parent / "models"
    (folder / "weights.bin").write_bytes(secret.read_bytes())
    pixels = exported.pixels(1)
    found = Session(with_external_data(exported, folder, "weights.bin"), 1).run(pixels)
    assert (found["logits"] == Session(exported.path, 1).run(pixels)["logits"]).all()


@pytest.mark.parametrize(
    "location",
    [
        "../secret",
        "one/../../secret",
        "./.././secret",
        "{secret}",
        "file-link",
        "folder-link/secret",
        "/proc/self/environ",
    ],
)
def test_weights_outside_of_the_folder_are_refused(exported, secret, location):
    folder = secret.parent / "models"
    (folder / "folder-link").symlink_to(secret.parent)
    path = with_external_data(exported, folder, location.format(secret=secret))
    with pytest.raises(ExportError, match=f"{re.escape(str(path))} {OUTSIDE}"):
        Session(path)
    with pytest.raises(onnx.checker.ValidationError):  # as export, variants and registry read graphs
        onnx.load(path)


def test_absent_weights_are_refused_in_the_same_words(exported, tmp_path):
    with pytest.raises(ExportError, match=f"{OUTSIDE}, or in one that is not there"):
        Session(with_external_data(exported, tmp_path, "nowhere.bin"))


@pytest.mark.parametrize("stated", [{"length": 2**50}, {"offset": 2**50}, {"offset": -8}])
def test_sizes_that_the_file_does_not_have_are_refused_before_memory_is_taken(exported, secret, stated):
    folder = secret.parent / "models"
    (folder / "weights.bin").write_bytes(secret.read_bytes())
    with pytest.raises(ExportError, match="is no graph that onnxruntime can run"):
        Session(with_external_data(exported, folder, "weights.bin", **stated))


def test_a_registered_graph_lies_alone_so_that_its_checksum_names_all_its_weights(exported, tmp_path):
    """`model_file` keeps nothing beside the graph: weights elsewhere can't be had, and are refused."""
    alone = with_external_data(exported, tmp_path / "cache" / ("0" * 64), "model.onnx.data")
    assert list(alone.parent.iterdir()) == [alone]
    with pytest.raises(ExportError, match=OUTSIDE):
        Session(alone)
