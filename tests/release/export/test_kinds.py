"""Graphs of every kind of labels: parity with torch, what they state, variants, and the item for catalogues."""

import json
import re

import numpy as np
import onnx
import pytest
from pystac.stac_object import STACObjectType
from pystac.validation.stac_validator import JsonSchemaSTACValidator

from fusmae.config.task import Task
from fusmae.data.shards import ShardReader
from fusmae.errors import ExportError, InputError
from fusmae.inference.session import METADATA_KEY, OUTPUTS, Session
from fusmae.models.preprocess import Preprocessing
from fusmae.release.answers import answers_of_graphs
from fusmae.release.export.graph import BATCH_SIZES, check_parity, deployable
from fusmae.release.export.mlm import mlm_item
from fusmae.release.export.variant_comparison import compare_scores, is_finite_at_extremes
from fusmae.release.export.variants import make_variants
from tests.kinds import CLASSES, DENSE, SIDE_PX, TASKS, checkpoint_of, export_kind

SETTINGS = (("s1", "s2"), ("s1",), ("s2",))
SHAPES = {
    "multilabel": (3,),
    "multiclass": (3,),
    "segmentation": (3, SIDE_PX, SIDE_PX),
    "tile value": (1,),
    "pixel value": (1, SIDE_PX, SIDE_PX),
}


@pytest.fixture(scope="module")
def preprocessing(inputs, statistics):
    return Preprocessing(inputs=inputs, statistics=statistics)


@pytest.fixture(scope="module")
def graph_of(make_once, preprocessing):
    """Finds the graph of a task of `tests.kinds`; to be read, never changed."""

    def find(name):
        folder = f"graph-{name.replace(' ', '-')}"
        return make_once(folder, lambda made: export_kind(made / "model.onnx", name, preprocessing)) / "model.onnx"

    return find


@pytest.fixture(scope="module")
def test_set(kind_shards):
    return lambda name: ShardReader(kind_shards(name), "test")


@pytest.fixture(params=TASKS)
def name(request):
    return request.param


def with_metadata(graph, path, change):
    """A copy of a graph with other metadata, as another version wrote them."""
    model = onnx.load(graph)
    metadata = next(json.loads(item.value) for item in model.metadata_props if item.key == METADATA_KEY)
    metadata.pop("digest", None)
    change(metadata)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(metadata)})
    onnx.save(model, path)
    return path


def test_the_graph_agrees_with_torch_in_every_setting_and_batch_size(name, graph_of, test_set, preprocessing):
    reader, session = test_set(name), Session(graph_of(name))
    reference = deployable(checkpoint_of(name, preprocessing)).eval().reference
    report = check_parity(session, reference, reader.read, len(reader), max_abs_error=1e-4)
    assert len(report["checks"]) == len(SETTINGS) * len(BATCH_SIZES)

    def shifted(pixels):
        far = 2e-4 * (60 if session.output == "value" else 1)  # a value differs by standard deviations
        return {key: array + far for key, array in reference(pixels).items()}

    with pytest.raises(ExportError, match=r"differ on s1\+s2 at batch size 1"):
        check_parity(session, shifted, reader.read, 2, max_abs_error=1e-4)


def test_the_session_states_the_task_and_answers_in_its_shape(name, graph_of, test_set):
    task, session = TASKS[name], Session(graph_of(name))
    assert session.task == task == session.require_task("tiny/1")
    assert (session.classes, session.output) == (task.classes, OUTPUTS[task.kind])
    pixels = test_set(name).read(range(5))
    for setting in SETTINGS:
        found = session.run(pixels, setting)
        assert found[session.output].shape == (5, *SHAPES[name])
        assert found["embedding"].shape == (5, session.embedding_dim)
        assert set(found) == {session.output, "embedding"} | (
            {"logits"} if "label" in name or "class" in name else set()
        )
        if task.classes:
            assert (found[session.output] >= 0).all()
            assert (found[session.output] <= 1).all()
        if task.kind in ("multiclass", "segmentation"):
            np.testing.assert_allclose(found[session.output].sum(axis=1), 1, atol=1e-5)


def test_values_keep_to_the_limits_of_their_quantity_in_the_graph(graph_of, test_set):
    for name in ("tile value", "pixel value"):
        session, reader = Session(graph_of(name)), test_set(name)
        found = session.run(reader.read(range(6)))["value"]
        assert (found >= 0).all()
        assert session.metadata["value_std"] == 60.0
        assert session.metadata["outputs"]["value"].endswith("biomass (t/ha)")


def test_a_missing_modality_never_matters_in_a_map_not_even_nan_also_in_a_mixed_batch(graph_of, test_set):
    session = Session(graph_of("segmentation"))
    pixels = {key: array.astype(np.float32) for key, array in test_set("segmentation").read(range(3)).items()}
    feeds = {key: array.copy() for key, array in pixels.items()}
    feeds["s1_10m"][2] = np.nan
    for key in feeds:
        if key.startswith("s2"):
            feeds[key][1] = np.nan
    feeds["presence"] = np.array([[1, 1], [1, 0], [0, 1]], np.float32)
    mixed = session._session.run(["map"], feeds)[0]
    for row, setting in enumerate(SETTINGS):
        alone = session.run({key: array[row : row + 1] for key, array in pixels.items()}, setting)["map"]
        np.testing.assert_allclose(mixed[row : row + 1], alone, atol=1e-5)


def test_the_session_names_what_is_wrong_with_its_input(graph_of, test_set):
    session, pixels = Session(graph_of("segmentation")), test_set("segmentation").read(range(2))
    with pytest.raises(InputError, match="Array s1_10m has a wrong shape"):
        session.run(pixels | {"s1_10m": pixels["s1_10m"][:, :, 1:]})
    with pytest.raises(InputError, match="Array s1_10m has NaN"):
        session.run(pixels | {"s1_10m": pixels["s1_10m"] * np.nan})


def test_a_graph_of_an_older_version_states_no_task_and_its_tiles_may_have_several_classes(graph_of, tmp_path):
    older = with_metadata(graph_of("multilabel"), tmp_path / "older.onnx", lambda facts: facts.pop("task"))
    assert Session(older).task == Task(classes=CLASSES)


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts.pop("task"),
        lambda facts: facts.update(task={"kind": "multiclass", "classes": CLASSES}),
        lambda facts: facts["task"].update(classes=[*CLASSES, "more"]),
    ],
)
def test_metadata_of_another_kind_are_refused(change, graph_of, tmp_path):
    wrong = with_metadata(graph_of("segmentation"), tmp_path / "wrong.onnx", change)
    with pytest.raises(ExportError, match="has metadata of another graph"):
        Session(wrong)


def test_a_task_that_makes_no_sense_is_refused(graph_of, tmp_path):
    change = lambda facts: facts["task"].update(kind="regression")  # noqa: E731
    wrong = with_metadata(graph_of("segmentation"), tmp_path / "wrong.onnx", change)
    with pytest.raises(ExportError, match="has fusmae metadata that can't be read"):
        Session(wrong)


@pytest.fixture(scope="module")
def variants_of(graph_of, kind_shards, make_once):
    """Finds the variants of a task's graph by precision."""

    def find(name):
        train = ShardReader(kind_shards(name), "train")
        folder = make_once(
            f"variants-{name.replace(' ', '-')}",
            lambda made: make_variants(graph_of(name), train, made, num_pairs=4, seed=0),
        )
        return {precision: folder / f"{precision}.onnx" for precision in ("fp16", "int8")}

    return find


@pytest.mark.parametrize("kind", ["multiclass", *DENSE])
def test_variants_of_a_kind_answer_nearly_as_fp32_does_in_every_setting(kind, graph_of, variants_of, test_set):
    session, pixels = Session(graph_of(kind)), test_set(kind).read(range(6))
    for precision, path in variants_of(kind).items():
        onnx.checker.check_model(onnx.load(path))
        variant = Session(path)
        assert variant.task == session.task
        assert is_finite_at_extremes(variant)
        for setting in SETTINGS:
            found, expected = (of.run(pixels, setting)[of.output] for of in (variant, session))
            assert found.dtype == np.float32
            scale = np.ptp(expected) if session.output == "value" else 1.0
            change = np.abs(found - expected).max() / scale
            assert 0 < change < {"fp16": 0.02, "int8": 0.15}[precision], (precision, setting)
            if session.task.classes:
                np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_convolutions_and_the_last_softmax_of_a_map_stay_in_full_precision(precision, variants_of):
    graph = onnx.load(variants_of("segmentation")[precision]).graph
    constants = {item.name: item.data_type for item in graph.initializer}
    maker = {output: node for node in graph.node for output in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 6  # two per modality, the one that joins them, the last one
    for node in convolutions:
        assert all(constants[value] == onnx.TensorProto.FLOAT for value in node.input[1:])
    (answer,) = [item for item in graph.output if item.name == "map"]
    last = maker[answer.name]
    assert last.op_type == "Softmax"
    assert maker[last.input[0]].op_type not in ("Cast", "DequantizeLinear")


def test_a_variant_of_a_dense_model_is_scored_beside_fp32(graph_of, variants_of, test_set):
    draws = {"places": [f"place {number}" for number in range(6)], "resamples": 10, "confidence": 0.95, "seed": 0}
    for kind, metrics in (("segmentation", ["miou", "pixel_accuracy"]), ("pixel value", ["r2", "rmse"])):
        session, variant = Session(graph_of(kind)), Session(variants_of(kind)["int8"])
        found = compare_scores(variant, session, test_set(kind), batch_size=4, draws=draws)
        assert list(found) == ["s1+s2", "s1", "s2"]
        for scores in found.values():
            assert list(scores.values) == list(scores.fp32) == list(scores.differences) == metrics
            assert 0 < scores.max_abs_error < 0.5


def test_answers_of_graphs_do_not_depend_on_the_batch_and_bad_numbers_are_counted(name, graph_of, test_set, tmp_path):
    session, reader = Session(graph_of(name)), test_set(name)
    (one,), (other,) = (answers_of_graphs([session], reader, ("s1", "s2"), size) for size in (1, 4))
    assert one.found.shape[0] == len(reader)
    np.testing.assert_allclose(one.found, other.found, rtol=1e-4, atol=1e-4)
    assert (one.num_bad, one.max_change) == (0, 0)

    class Broken:
        """A graph whose first answer is not a number."""

        path, metadata, output = session.path, session.metadata, session.output

        def require_task(self, label):
            return session.require_task(label)

        def run(self, *arguments, **options):
            found = session.run(*arguments, **options)
            found[self.output].reshape(-1)[0] = np.nan
            return found

    good, bad = answers_of_graphs([session, Broken()], reader, ("s1", "s2"), len(reader))
    assert (good.num_bad, bad.num_bad) == (0, 1)
    assert np.isnan(bad.max_change)
    assert np.isfinite(bad.found).all()


@pytest.mark.parametrize(
    ("kind", "noun", "task", "dimensions"),
    [
        ("multilabel", "classifier", "scene-classification", ["batch", "class"]),
        ("multiclass", "classifier", "scene-classification", ["batch", "class"]),
        ("segmentation", "segmenter", "semantic-segmentation", ["batch", "class", "row", "column"]),
        ("tile value", "regressor", "regression", ["batch", "value"]),
        ("pixel value", "regressor", "regression", ["batch", "value", "row", "column"]),
    ],
)
def test_the_item_for_catalogues_says_what_the_model_does(kind, noun, task, dimensions, graph_of):
    item = mlm_item(graph_of(kind), "./model.onnx")
    JsonSchemaSTACValidator().validate_core(item, STACObjectType.ITEM, "1.1.0")
    properties, session = item["properties"], Session(graph_of(kind))
    assert properties["mlm:name"] == f"Fus-MAE {noun}"
    assert item["id"].startswith(f"fusmae-{noun}-")
    assert task in properties["mlm:tasks"]
    outputs = {output["name"]: output for output in properties["mlm:output"]}
    answer = outputs[session.output]
    assert answer["result"]["dim_order"] == dimensions
    assert answer["result"]["shape"] == [-1, *SHAPES[kind]]
    assert all(re.fullmatch(r"[a-z-_]+", name) for name in answer["result"]["dim_order"])
    classes = answer.get("classification:classes") or []
    assert [entry["description"] for entry in classes] == list(TASKS[kind].classes)
    assert [entry["value"] for entry in classes] == list(range(len(classes)))
    assert answer["tasks"] == [task]
    assert outputs["embedding"]["tasks"] == ["similarity-search"]
