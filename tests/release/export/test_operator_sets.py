"""Graphs for older runtimes: each operator set agrees with torch, and states what it needs to run."""

import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest

from fusmae.config.params import load_config
from fusmae.errors import ConfigError, ExportError
from fusmae.inference.session import Session
from fusmae.release.export.graph import DeployablePredictor, check_parity, export_onnx
from fusmae.release.export.onnx_file import NEWEST, OLDEST, runtime_of, save_onnx

# On one worker: exporting the graphs takes most of the time.
pytestmark = pytest.mark.xdist_group("operator sets")

NEEDS = {17: (8, ">=1.12"), 20: (9, ">=1.17"), 21: (10, ">=1.18"), 23: (10, ">=1.23")}
# Runs what it is given in an onnxruntime of another folder, which has no more than numpy beside it.
OLD_RUNTIME = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy, onnxruntime
feeds = dict(numpy.load(sys.argv[2]))
expected = feeds.pop("expected")
print(onnxruntime.__version__)
for path in sys.argv[3:]:
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        print(numpy.abs(session.run(["logits"], feeds)[0] - expected).max() < 1e-4)
    except Exception:
        print("refused")
assert "torch" not in sys.modules
"""


@pytest.fixture(scope="module")
def graphs(exported, tmp_path_factory):
    folder = tmp_path_factory.mktemp("graphs")
    model = DeployablePredictor(exported.preprocess, exported.classifier)
    shutil.copy(exported.path, folder / "17.onnx")
    for opset in NEEDS.keys() - {17}:
        graph = export_onnx(model, opset=opset)
        save_onnx(graph, exported.metadata, folder / f"{opset}.onnx")
    return folder


@pytest.mark.parametrize("opset", NEEDS)
def test_a_graph_of_each_operator_set_agrees_with_torch_with_any_modality_missing(exported, graphs, opset):
    pixels = exported.pixels(9)

    def read(indices):
        return {name: array[list(indices)] for name, array in pixels.items()}

    session = Session(graphs / f"{opset}.onnx")
    check_parity(session, exported.reference, read, 9, max_abs_error=1e-4)


@pytest.mark.parametrize("opset", NEEDS)
def test_a_graph_states_its_operator_set_file_format_and_oldest_runtime(graphs, opset):
    graph, metadata = onnx.load(graphs / f"{opset}.onnx"), Session(graphs / f"{opset}.onnx").metadata
    ir_version, onnxruntime = NEEDS[opset]
    assert [(item.domain, item.version) for item in graph.opset_import] == [("", opset)]
    assert {node.domain for node in graph.graph.node} == {""}
    assert graph.ir_version == ir_version
    assert metadata["runtime"] == {"opset": opset, "ir_version": ir_version, "onnxruntime": onnxruntime}


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="onnxruntime 1.17.3 is not published for this Python")
def test_an_onnxruntime_of_2024_runs_the_graphs_that_say_so_and_no_other(exported, graphs, tmp_path):
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", tmp_path / "old"]
    done = subprocess.run([*pip, "onnxruntime==1.17.3", "numpy<2"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no package index within reach: {done.stderr.strip().splitlines()[-1]}")
    pixels = exported.pixels(3)
    feeds = {name: array.astype(np.float32) for name, array in pixels.items()}
    feeds["presence"] = np.ones((3, 2), np.float32)
    np.savez(tmp_path / "feeds.npz", **feeds, expected=exported.reference(pixels)["logits"])
    paths = [graphs / f"{opset}.onnx" for opset in NEEDS]
    command = [sys.executable, "-c", OLD_RUNTIME, tmp_path / "old", tmp_path / "feeds.npz", *paths]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.split() == ["1.17.3", "True", "True", "refused", "refused"], done.stderr


def test_a_newer_file_format_than_the_operator_set_needs_is_not_taken_for_an_old_runtime_s(graphs):
    graph = onnx.load(graphs / "17.onnx")
    graph.ir_version = 11
    with pytest.raises(ExportError, match="not known which onnxruntime"):
        runtime_of(graph)


@pytest.mark.parametrize("opset", [OLDEST - 1, NEWEST + 1])
def test_other_operator_sets_are_refused_before_anything_is_trained(tmp_path, opset):
    from pathlib import Path

    text = (Path(__file__).parents[3] / "params.yaml").read_text(encoding="utf-8")
    before = load_config(Path(__file__).parents[3] / "params.yaml").export.opset
    (tmp_path / "params.yaml").write_text(text.replace(f"opset: {before}", f"opset: {opset}"), encoding="utf-8")
    with pytest.raises(ConfigError, match=f"export.opset: got {opset}"):
        load_config(tmp_path / "params.yaml")
