import numpy as np
import onnx
import pytest

from fusmae.errors import ExportError, InputError
from fusmae.inference.session import Session
from fusmae.release.export.graph import BATCH_SIZES, check_parity

SETTINGS = (("s1", "s2"), ("s1",), ("s2",))


def only(pixels, modalities):
    """The arrays of some modalities."""
    return {name: array for name, array in pixels.items() if name.partition("_")[0] in modalities}


def parity(exported, reference, count):
    pixels = exported.pixels(count)

    def read(indices):
        return {name: array[list(indices)] for name, array in pixels.items()}

    return check_parity(exported.session, reference, read, count, max_abs_error=1e-4)


def test_graph_agrees_with_torch_in_every_setting_and_batch_size(exported):
    report = parity(exported, exported.reference, 9)
    assert report["num_pairs"] == 9
    assert len(report["checks"]) == len(SETTINGS) * len(BATCH_SIZES)


def test_parity_fails_on_a_model_that_differs_a_little(exported):
    def shifted(batch):
        return {name: array + 2e-4 for name, array in exported.reference(batch).items()}

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
    def broken(batch):
        return {name: array * np.nan for name, array in exported.reference(batch).items()}

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
        alone = exported.reference(only({name: array[row : row + 1] for name, array in pixels.items()}, setting))
        np.testing.assert_allclose(mixed[row : row + 1], alone["logits"], atol=1e-4)


def test_an_encoder_agrees_with_torch_in_embedding_and_tokens(exported_encoder):
    session, pixels = exported_encoder.session, exported_encoder.pixels(3)
    assert (session.classes, session.embedding_dim) == ((), 16)
    assert session.tokens == {"s1": "tokens_s1", "s2": "tokens_s2"}
    for setting in SETTINGS:
        expected = exported_encoder.reference(only(pixels, setting))
        assert set(expected) == {"embedding", *(f"tokens_{name}" for name in setting)}
        found = session.run(pixels, setting)
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, atol=1e-4)
        for name in {"s1", "s2"} - set(setting):
            np.testing.assert_array_equal(found[f"tokens_{name}"], np.zeros((3, 3, 3, 16)))


def test_only_the_outputs_that_are_asked_for_are_given(exported_encoder):
    assert list(exported_encoder.session.run(exported_encoder.pixels(1), outputs=["embedding"])) == ["embedding"]


def test_an_encoder_is_refused_where_predictions_are_needed(exported, exported_encoder):
    exported.session.require_task("tiny/1")
    with pytest.raises(ExportError, match=r"tiny-encoder/1 is an encoder(?s:.*)next: +name such a model"):
        exported_encoder.session.require_task("tiny-encoder/1")


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
