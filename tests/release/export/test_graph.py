import numpy as np
import onnx
import pytest

from fusmae.errors import ExportError, InputError
from fusmae.inference.session import Session
from fusmae.release.export.graph import BATCH_SIZES, check_parity

SETTINGS = (("s1", "s2"), ("s1",), ("s2",))


def parity(exported, reference, count):
    pixels = exported.pixels(count)

    def read(indices):
        return {name: array[list(indices)] for name, array in pixels.items()}

    return check_parity(exported.session, reference, read, count, SETTINGS, max_abs_error=1e-4)


def test_graph_agrees_with_torch_in_every_setting_and_batch_size(exported):
    report = parity(exported, exported.reference, 9)
    assert report["num_pairs"] == 9
    assert len(report["checks"]) == len(SETTINGS) * len(BATCH_SIZES)


def test_parity_fails_on_a_model_that_differs_a_little(exported):
    def shifted(batch, setting):
        return exported.reference(batch, setting) + 2e-4

    with pytest.raises(ExportError, match=r"differ on s1\+s2 at batch size 1"):
        parity(exported, shifted, 3)


def test_the_embedding_is_what_the_head_sees_in_torch(exported):
    import torch

    pixels = exported.pixels(3)
    tiles = exported.preprocess({name: torch.from_numpy(array) for name, array in pixels.items()})
    with torch.no_grad():
        wanted = exported.classifier.embed(tiles)
    found = exported.session.run(pixels)["embedding"]
    assert found.shape == (3, exported.session.embedding_dim)
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_parity_fails_on_nan(exported):
    def broken(batch, setting):
        return exported.reference(batch, setting) * np.nan

    with pytest.raises(ExportError):
        parity(exported, broken, 3)


def test_normalisation_and_upsampling_are_inside(exported):
    # Raw arrays at native resolution go in: shifting pixels by a physical offset changes the answer.
    pixels = exported.pixels(2)
    assert pixels["s2_20m"].shape[-1] * 2 == pixels["s2_10m"].shape[-1]
    before = exported.session.run(pixels)["logits"]
    after = exported.session.run({**pixels, "s1_10m": pixels["s1_10m"] + 5})["logits"]
    assert np.abs(after - before).max() > 1e-4
    operators = {node.op_type for node in onnx.load(exported.path).graph.node}
    assert "Resize" in operators


def test_an_absent_modality_never_matters_not_even_nan(exported):
    pixels = exported.pixels(2)
    only_s2 = {name: array for name, array in pixels.items() if name.startswith("s2")}
    feeds = {name: array.astype(np.float32) for name, array in pixels.items()}
    feeds["s1_10m"] = np.full_like(feeds["s1_10m"], np.nan)
    feeds["presence"] = np.array([[0, 1], [0, 1]], np.float32)
    raw = exported.session._session.run(["logits"], feeds)[0]
    np.testing.assert_array_equal(raw, exported.session.run(only_s2)["logits"])


def test_rows_of_a_batch_may_differ_in_what_is_present(exported):
    pixels = {name: array.astype(np.float32) for name, array in exported.pixels(3).items()}
    feeds = {**pixels, "presence": np.array([[1, 1], [1, 0], [0, 1]], np.float32)}
    mixed = exported.session._session.run(["logits"], feeds)[0]
    for row, setting in enumerate(SETTINGS):
        alone = exported.reference({name: array[row : row + 1] for name, array in pixels.items()}, setting)
        np.testing.assert_allclose(mixed[row : row + 1], alone, atol=1e-4)


def test_weights_are_in_the_one_file(exported):
    graph = onnx.load(exported.path, load_external_data=False)
    assert all(item.data_location == onnx.TensorProto.DEFAULT for item in graph.graph.initializer)
    assert [path.name for path in exported.path.parent.iterdir()] == ["model.onnx"]


def test_batch_dimension_is_dynamic(exported):
    graph = onnx.load(exported.path).graph
    for value in (*graph.input, *graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param


def test_session_reads_metadata_back(exported):
    found = dict(exported.session.metadata)
    assert set(found) - set(exported.metadata) == {"runtime", "digest"}
    assert {name: found[name] for name in exported.metadata} == exported.metadata
    assert exported.session.inputs == exported.inputs


def test_session_refuses_a_graph_without_metadata(exported, tmp_path):
    graph = onnx.load(exported.path)
    del graph.metadata_props[:]
    onnx.save(graph, tmp_path / "foreign.onnx")
    with pytest.raises(ExportError, match="carries no fusmae metadata"):
        Session(tmp_path / "foreign.onnx")


@pytest.mark.parametrize(
    ("change", "modalities", "wanted"),
    [
        (lambda p: {}, None, "one modality at least"),
        (lambda p: p, ["S1"], "known ones only"),
        (lambda p: p, [], "one modality at least"),
        (lambda p: {"s2_10m": p["s2_10m"]}, None, "Array s2_20m is missing"),
        (lambda p: {**p, "s1_10m": p["s1_10m"][:, :1]}, None, "Array s1_10m has a wrong shape"),
        (lambda p: {**p, "s1_10m": p["s1_10m"][:1]}, None, "the same B in every array"),
        (lambda p: {**p, "s1_10m": p["s1_10m"] * np.nan}, None, "Array s1_10m has NaN"),
    ],
)
def test_session_names_what_is_wrong_with_its_input(exported, change, modalities, wanted):
    with pytest.raises(InputError, match=wanted):
        exported.session.run(change(exported.pixels(2)), modalities)
