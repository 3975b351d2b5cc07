import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from fusmae.config.params import load_config
from fusmae.config.task import Task
from fusmae.data.index import write_index
from fusmae.data.shards import ShardReader
from fusmae.errors import ExportError
from fusmae.files import file_sha256
from fusmae.inference.session import Session
from fusmae.models.encoder import Encoder
from fusmae.models.heads import ClassifierHead, readout_dim
from fusmae.models.predictors import TilePredictor
from fusmae.release.export.graph import DeployablePredictor, export_onnx
from fusmae.release.export.onnx_file import save_onnx, write_graph
from fusmae.release.export.variant_comparison import (
    Latency,
    Variant,
    compare_latencies,
    compare_scores,
    is_finite_at_extremes,
)
from fusmae.release.export.variants import make_variants
from fusmae.stages.variants import variants
from tests.sections import architecture_of, preprocess_of

ROOT = Path(__file__).parents[3]
PRECISIONS = ("fp16", "int8")
SETTINGS = (("s1", "s2"), ("s1",), ("s2",))
DRAWS = {"places": [f"place {number}" for number in range(6)], "resamples": 20, "confidence": 0.95, "seed": 0}


def save_source(path, inputs, statistics, classes, opset):
    """A tiny graph for the tiny shards, its head large enough that probabilities are far from one half."""
    torch.manual_seed(0)
    preprocess = preprocess_of(inputs, statistics)
    encoder = Encoder(architecture_of(preprocess.preprocessing, depth=4))
    classifier = TilePredictor(Task(), encoder, "mean", ClassifierHead(readout_dim(encoder, "mean"), len(classes)))
    torch.nn.init.normal_(classifier.head.linear.weight)
    model = DeployablePredictor(preprocess, classifier)
    described = preprocess.preprocessing.model_dump(mode="json")
    metadata = {**described, "modalities": ["s1", "s2"], "classes": list(classes), "precision": "fp32"}
    save_onnx(export_onnx(model, opset=opset), metadata, path)
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory, inputs, statistics, classes):
    return save_source(tmp_path_factory.mktemp("exported") / "model.onnx", inputs, statistics, classes, opset=17)


@pytest.fixture(scope="module")
def train(shards):
    return ShardReader(shards, "train")


@pytest.fixture(scope="module")
def test_set(shards):
    return ShardReader(shards, "test")


@pytest.fixture(scope="module")
def made(source, train, tmp_path_factory):
    return make_variants(source, train, tmp_path_factory.mktemp("variants"), num_pairs=5, seed=0)


def changed(source, path, change):
    """A copy of the graph with some weights changed."""
    graph = onnx.load(source)
    for item in graph.graph.initializer:
        value = change(item.name, numpy_helper.to_array(item))
        item.CopyFrom(numpy_helper.from_array(value, item.name))
    write_graph(graph, path)
    return path


@pytest.mark.parametrize("precision", PRECISIONS)
def test_inputs_and_outputs_are_those_of_fp32(made, source, precision):
    expected, found = onnx.load(source).graph, onnx.load(made[precision]).graph
    for values, others in ((expected.input, found.input), (expected.output, found.output)):
        assert [item.name for item in values] == [item.name for item in others]
        for value, other in zip(values, others, strict=True):
            assert other.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
            assert other.type.tensor_type.shape.dim[0].dim_param
            assert list(other.type.tensor_type.shape.dim)[1:] == list(value.type.tensor_type.shape.dim)[1:]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_metadata_are_those_of_fp32_with_precision_and_origin(made, source, precision):
    expected, found = Session(source).metadata, dict(Session(made[precision]).metadata)
    origin = found.pop("variant_of")
    assert origin["onnx_sha256"] == file_sha256(source)
    assert origin["method"]
    assert found == {**expected, "precision": precision}
    assert found["statistics"]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("batch_size", [1, 6])
def test_probabilities_are_close_to_fp32s_with_any_modality_missing(
    made, source, test_set, precision, setting, batch_size
):
    pixels = test_set.read(range(batch_size))
    found, expected = (Session(path).run(pixels, setting)["probabilities"] for path in (made[precision], source))
    assert np.ptp(expected) > 0.3
    assert np.abs(found - expected).max() < {"fp16": 0.01, "int8": 0.08}[precision]
    assert not np.array_equal(found, expected)


def test_variants_of_a_graph_with_attention_as_one_operator_are_as_close(
    train, test_set, inputs, statistics, classes, tmp_path
):
    source = save_source(tmp_path / "model.onnx", inputs, statistics, classes, opset=23)
    made = make_variants(source, train, tmp_path / "variants", num_pairs=5, seed=0)
    pixels = test_set.read(range(6))
    expected = Session(source).run(pixels)["probabilities"]
    for precision, largest in (("fp16", 0.01), ("int8", 0.08)):
        found = Session(made[precision]).run(pixels)["probabilities"]
        assert 0 < np.abs(found - expected).max() < largest


@pytest.mark.parametrize("precision", PRECISIONS)
def test_rows_may_differ_in_what_is_present_and_an_absent_modality_may_be_nan(made, test_set, precision):
    pixels = {name: array.astype(np.float32) for name, array in test_set.read(range(3)).items()}
    feeds = {name: array.copy() for name, array in pixels.items()}
    feeds["s1_10m"][2] = np.nan
    feeds["presence"] = np.array([[1, 1], [1, 0], [0, 1]], np.float32)
    session = Session(made[precision])
    mixed = session._session.run(["logits"], feeds)[0]
    for row, setting in enumerate(SETTINGS):
        alone = session.run({name: array[row : row + 1] for name, array in pixels.items()}, setting)["logits"]
        np.testing.assert_allclose(mixed[row : row + 1], alone, atol=5e-3)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_pixels_are_standardised_and_embedded_in_full_precision(made, source, inputs, precision):
    # 10,001 and 10,003 are no half floats.
    feeds = {item.name: np.full((1, len(item.bands), item.side_px, item.side_px), 10001, np.float32) for item in inputs}
    feeds["s2_10m"][:, :, ::2] = 10003
    feeds["presence"] = np.ones((1, 2), np.float32)
    tokens = []
    for path in (source, made[precision]):
        graph = onnx.load(path)
        embeddings = [node.output[0] for node in graph.graph.node if any(".embed." in name for name in node.input)]
        products = [
            node.output[0] for node in graph.graph.node if node.op_type == "Gemm" and node.output[0] in embeddings
        ]
        assert len(products) == 2
        graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in products)
        tokens.append(onnxruntime.InferenceSession(graph.SerializeToString()).run(products, feeds))
    for found, expected in zip(*tokens, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_int8_has_a_scale_a_channel_in_the_encoders_layers_and_in_no_other(made):
    graph = onnx.load(made["int8"]).graph
    constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    maker = {node.output[0]: node for node in graph.node}
    quantised, kept = [], []
    for node in graph.node:
        if node.op_type != "Gemm":
            continue
        weight = maker.get(node.input[1])
        if weight is None:
            kept.append(node.input[1])
            continue
        values, scales = (constants[name] for name in weight.input[:2])
        assert values.dtype == np.int8
        assert scales.shape == (len(values),)
        assert np.abs(values).max() <= 64  # 7 bits: no CPU saturates
        assert maker[maker[node.input[0]].input[0]].op_type == "QuantizeLinear"
        quantised.append(weight.input[0])
    assert sorted(name.rsplit(".", 2)[0] for name in kept) == [
        "classifier.encoder.embed.s1",
        "classifier.encoder.embed.s2",
        "classifier.head",
    ]
    # Two cross-attentions with three layers each, the first block's MLP, three joint blocks.
    assert len(quantised) == 6 + 2 + 3 * 4


def test_fp16_halves_the_weights_of_the_encoders_layers(made):
    types = {item.name: item.data_type for item in onnx.load(made["fp16"]).graph.initializer}
    layers = {name: kind for name, kind in types.items() if name.endswith(".weight") and ".norm" not in name}
    full = {name for name, kind in layers.items() if kind == onnx.TensorProto.FLOAT}
    assert all(".embed." in name or ".head." in name for name in full)
    assert onnx.TensorProto.FLOAT16 in layers.values()


def test_calibration_pairs_are_of_train_and_drawn_by_the_seed(made, source, train, tmp_path):
    drawn = Session(made["int8"]).metadata["variant_of"]["calibration_pairs"]
    assert len(set(drawn)) == 5
    assert set(drawn) < set(train.keys)
    other = make_variants(source, train, tmp_path, num_pairs=5, seed=1)
    assert Session(other["int8"]).metadata["variant_of"]["calibration_pairs"] != drawn
    assert other["int8"].read_bytes() != made["int8"].read_bytes()


def test_the_same_inputs_give_the_same_bytes_in_any_process_and_leave_nothing_behind(made, source, shards, tmp_path):
    script = (
        "import sys\nfrom pathlib import Path\nfrom fusmae.data.shards import ShardReader\n"
        "from fusmae.release.export.variants import make_variants\n"
        "source, shards, out = map(Path, sys.argv[1:])\n"
        "make_variants(source, ShardReader(shards, 'train'), out, num_pairs=5, seed=0)\n"
    )
    out, work, temporary = (tmp_path / name for name in ("out", "work", "temporary"))
    work.mkdir()
    temporary.mkdir()
    # Sets of names come in another order in each process unless their hashes are fixed.
    environment = {**os.environ, "PYTHONHASHSEED": "1", "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)}
    environment["ORT_DISABLE_TELEMETRY"] = "1"  # onnxruntime notes its session's id there otherwise
    command = [sys.executable, "-c", script, str(source), str(shards), str(out)]
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    for precision in PRECISIONS:
        assert file_sha256(out / f"{precision}.onnx") == file_sha256(made[precision])
    assert sorted(path.name for path in out.iterdir()) == ["fp16.onnx", "int8.onnx"]
    assert [*work.iterdir(), *temporary.iterdir()] == []


def test_a_graph_of_another_exporter_is_refused(source, train, tmp_path):
    graph = onnx.load(source)
    for item in graph.graph.initializer:
        item.name = item.name.replace(".embed.", ".project.")
    for node in graph.graph.node:
        for at, name in enumerate(node.input):
            node.input[at] = name.replace(".embed.", ".project.")
    write_graph(graph, tmp_path / "foreign.onnx")
    with pytest.raises(ExportError, match="not by this version's exporter"):
        make_variants(tmp_path / "foreign.onnx", train, tmp_path, num_pairs=2, seed=0)


def test_sums_that_overflow_half_floats_are_found(source, train, tmp_path):
    grown = changed(
        source, tmp_path / "grown.onnx", lambda name, value: value * 1e5 if name.endswith("mlp.fc1.weight") else value
    )
    made = make_variants(grown, train, tmp_path, num_pairs=2, seed=0)
    assert is_finite_at_extremes(Session(grown))
    assert not is_finite_at_extremes(Session(made["fp16"]))


def test_a_variant_that_ranks_worse_is_not_accepted(source, test_set, tmp_path):
    turned = changed(
        source, tmp_path / "turned.onnx", lambda name, value: -value if name.startswith("classifier.head") else value
    )
    labels = (Session(source).run(test_set.read(range(6)))["probabilities"] > 0.5).astype(np.uint8)
    assert labels.any()
    assert not labels.all()
    test_set = ShardReaderWith(test_set, labels)
    scores = compare_scores(Session(turned), Session(source), test_set, batch_size=4, draws=DRAWS)
    assert list(scores) == ["s1+s2", "s1", "s2"]
    assert scores["s1+s2"].fp32["micro_ap"] == 1.0
    assert scores["s1+s2"].differences["micro_ap"].high < 0
    variant = Variant("int8", "", 1.0, [Latency(1, 1.0, 0.5, 0.5, 0.5)], scores, is_finite=True)
    assert "micro_ap with s1+s2" in variant.faults(max_loss=0.02)[0]


class ShardReaderWith:
    """Real pixels with other labels."""

    def __init__(self, reader, labels):
        self.reader, self.task, self.labels, self.read = reader, reader.task, labels, reader.read

    def __len__(self):
        return len(self.reader)


def test_fp32_is_its_own_measure(source, test_set):
    (latencies,) = compare_latencies([Session(source)], test_set, batch_sizes=[1, 8], rounds=2)
    assert [found.batch_size for found in latencies] == [1, 8]
    assert {found.ratio for found in latencies} == {1.0}
    same = compare_scores(Session(source), Session(source), test_set, batch_size=4, draws=DRAWS)
    for scores in same.values():
        assert scores.max_abs_error == 0
        assert all((found.low, found.high) == (0, 0) for found in scores.differences.values())
    assert Variant("fp32", "", 1.0, latencies, {}, is_finite=True).faults(0.0) == []


def test_the_stage_keeps_what_it_accepts_and_reports_all(source, shards, pairs, tmp_path):
    write_index(pairs, tmp_path / "index.parquet")
    few = {"calibration_pairs": 3, "rounds": 2, "batch_size": 4, "bootstrap_resamples": 10}
    section = load_config(ROOT / "params.yaml").variants.model_copy(update=few)
    out, report, index = tmp_path / "models", tmp_path / "report", tmp_path / "index.parquet"
    variants(section, seed=0, exported=source.parent, shards=shards, index=index, out=out, report=report)
    found = json_of(report / "report.json")
    assert (found["num_test_pairs"], found["num_test_places"]) == (6, 6)
    accepted = {name for name, row in found["variants"].items() if row["is_accepted"]} - {"fp32"}
    assert list(found["variants"]) == ["fp16", "fp32", "int8"]
    assert {path.stem for path in out.glob("*.onnx")} == accepted
    assert json_of(out / "accepted.json") == {
        "variant_of": file_sha256(source),
        "accepted": {name: file_sha256(out / f"{name}.onnx") for name in accepted},
    }
    for row in found["variants"].values():
        assert row["is_accepted"] == (not row["why_not"])
        assert [latency["batch_size"] for latency in row["latencies"]] == [1, 4]
    table = (report / "table.md").read_text(encoding="utf-8")
    assert table.count("\n| int8 | s1 |") == 1
    assert "6 test pairs" in table


def json_of(path):
    return json.loads(path.read_text(encoding="utf-8"))
