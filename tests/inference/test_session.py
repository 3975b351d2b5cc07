"""A session refuses a file that is not what its metadata say."""

import json

import numpy as np
import onnx
import pytest

from fusmae.errors import ExportError, InputError
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


@pytest.mark.parametrize("value", [1e39, -1e300, np.float32(-3.4e38), np.nan, np.inf])
def test_pixels_that_the_graph_could_not_hold_are_refused(exported, value):
    pixels = exported.pixels(1)
    pixels["s1_10m"] = pixels["s1_10m"].astype(np.float64)
    pixels["s1_10m"][0, 0, 3, 4] = value
    with pytest.raises(InputError, match="s1_10m has NaN or infinite pixels, or some beyond"):
        exported.session.run(pixels)


def test_an_integer_without_a_positive_is_too_large(exported):
    pixels = exported.pixels(1)
    pixels["s1_10m"] = np.full_like(pixels["s1_10m"], np.iinfo(np.int32).min, np.int32)
    with pytest.raises(InputError, match="some beyond"):
        exported.session.run(pixels)


def test_numbers_of_any_width_give_the_same_answer(exported):
    pixels = exported.pixels(1)
    expected = exported.session.run(pixels)["probabilities"]
    wide = exported.session.run({name: array.astype(np.float64) for name, array in pixels.items()})
    assert np.array_equal(wide["probabilities"], expected)


def test_data_of_other_bands_are_refused_and_more_arrays_are_not(exported):
    more = exported.inputs[0].model_copy(update={"name": "s3_10m"})
    exported.session.require_inputs([*exported.inputs, more], "shards")
    swapped = [item.model_copy(update={"bands": item.bands[::-1]}) for item in exported.inputs]
    for inputs in (swapped, exported.inputs[1:]):
        with pytest.raises(InputError, match=r"(?s)shards holds other bands.*expected: s1_10m .*VV, VH"):
            exported.session.require_inputs(inputs, "shards")


def test_a_file_that_is_no_graph_is_named(tmp_path):
    (tmp_path / "no.onnx").write_bytes(b"no graph")
    with pytest.raises(ExportError, match=r"no\.onnx is no graph"):
        Session(tmp_path / "no.onnx")


@pytest.mark.parametrize(("batch", "num_threads"), [(3, 2), (7, 2), (7, 4), (8, 4)])
def test_with_a_part_for_each_thread_answers_are_the_same_to_the_last_bit(exported, batch, num_threads):
    pixels = exported.pixels(batch)
    expected = Session(exported.path, 1).run(pixels)
    found = Session(exported.path, num_threads).run(pixels)
    assert all(len(array) == batch for array in found.values())
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_with_more_threads_than_parts_answers_differ_by_rounding_at_most(exported, batch):
    pixels = exported.pixels(batch)
    expected = Session(exported.path, 1).run(pixels)
    found = Session(exported.path, 8).run(pixels)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6)
