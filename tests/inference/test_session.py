"""A session refuses a file that is not what its metadata say."""

import json

import onnx
import pytest

from fusmae.errors import ExportError
from fusmae.inference.session import METADATA_KEY, Session


def edited(exported, tmp_path, change):
    """The exported file with other metadata."""
    model = onnx.load(exported.path)
    metadata = json.loads(json.dumps(exported.metadata))
    change(metadata)
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(metadata)})
    path = tmp_path / "edited.onnx"
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda m: m["inputs"][0].update(bands=["VV"]), "s1_10m"),
        (lambda m: m["inputs"][0].update(name="s1_20m"), "s1_20m"),
        (lambda m: m["inputs"][2].update(side_px=24), "s2_20m"),
        (lambda m: m["modalities"].append("s3"), "presence"),
        (lambda m: m["classes"].append("d"), "probabilities"),
        (lambda m: m["inputs"].pop(), "s2_20m"),
    ],
)
def test_metadata_of_another_graph_are_refused(exported, tmp_path, change, named):
    with pytest.raises(ExportError, match="metadata of another graph") as error:
        Session(edited(exported, tmp_path, change))
    assert named in str(error.value)


def test_metadata_without_classes_are_refused(exported, tmp_path):
    with pytest.raises(ExportError, match="can't be read"):
        Session(edited(exported, tmp_path, lambda m: m.pop("classes")))


def test_a_file_that_is_no_graph_is_named(tmp_path):
    (tmp_path / "no.onnx").write_bytes(b"no graph")
    with pytest.raises(ExportError, match=r"no\.onnx is no graph"):
        Session(tmp_path / "no.onnx")
