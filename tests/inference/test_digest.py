"""A graph's file says what it held when it was exported: a change of any byte is found as it is opened."""

import json

import numpy as np
import onnx
import pytest

from fusmae.errors import ExportError
from fusmae.inference.session import DIGEST_KEY, METADATA_KEY, Session


def positions(size):
    """Bytes to change: all over the file, and every one of the digest's own entry."""
    return sorted({*np.linspace(0, size - 1, 60).astype(int).tolist(), *range(size - 83, size)})


def test_a_change_of_any_byte_is_refused(exported, tmp_path):
    content, path = exported.path.read_bytes(), tmp_path / "flipped.onnx"
    for at in positions(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(ExportError):
            Session(path, 1)


def test_a_changed_weight_is_named_with_what_to_do(exported, tmp_path):
    model = onnx.load(exported.path)
    weight = max(model.graph.initializer, key=lambda item: len(item.raw_data))
    at = exported.path.read_bytes().index(weight.raw_data) + len(weight.raw_data) // 2
    content, path = bytearray(exported.path.read_bytes()), tmp_path / "changed.onnx"
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(ExportError, match=r"(?s)changed or damaged.*got: .*SHA-256.*expected: .*next: .*export"):
        Session(path, 1)


def test_weights_moved_to_another_file_are_a_change(exported, tmp_path):
    model = onnx.load(exported.path)
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=1024)
    with pytest.raises(ExportError, match="changed or damaged"):
        Session(tmp_path / "model.onnx", 1)


def test_a_file_cut_short_is_refused(exported, tmp_path):
    (tmp_path / "short.onnx").write_bytes(exported.path.read_bytes()[:-83])
    with pytest.raises(ExportError, match="the entry is missing"):
        Session(tmp_path / "short.onnx", 1)


def test_reading_and_writing_by_onnx_changes_no_byte(exported, tmp_path):
    onnx.save(onnx.load(exported.path), tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == exported.path.read_bytes()


def test_a_graph_of_an_older_build_without_a_digest_runs(exported, tmp_path):
    model = onnx.load(exported.path)
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(exported.metadata)})
    onnx.save(model, tmp_path / "older.onnx")
    pixels = exported.pixels(1)
    found = Session(tmp_path / "older.onnx", 1).run(pixels)["logits"]
    np.testing.assert_array_equal(found, Session(exported.path, 1).run(pixels)["logits"])


def test_the_digest_is_the_last_entry_of_the_file(exported):
    assert exported.path.read_bytes()[-81:].startswith(b"\n\r" + DIGEST_KEY.encode())
