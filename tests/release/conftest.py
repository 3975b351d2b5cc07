"""A registry with three versions over the tiny shards, in a git checkout, a copy for each test."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml
from mlflow.tracking._tracking_service.utils import _artifact_repos_cache as artifact_stores

from fusmae.cli.promote_version import promote_version
from fusmae.config.params import load_config
from fusmae.config.task import Task
from fusmae.data.index import write_index
from fusmae.data.verdict import write_verdict
from fusmae.files import write_json
from fusmae.models.encoder import Encoder
from fusmae.models.heads import ClassifierHead, readout_dim
from fusmae.models.predictors import TilePredictor
from fusmae.release.export.graph import DeployableEncoder, DeployablePredictor, export_onnx
from fusmae.release.export.onnx_file import save_onnx, write_graph
from fusmae.release.registry.versions import register_graph
from fusmae.runs.dvc_lock import dvc_md5
from tests.conftest import turned
from tests.sections import architecture_of, preprocess_of

ROOT = Path(__file__).parents[2]
NAME, ENCODER = "tiny", "tiny-encoder"


def git(*arguments, cwd):
    identity = ["-c", "user.name=A. Person", "-c", "user.email=a.person@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=cwd, check=True, capture_output=True)


@pytest.fixture(scope="session")
def graph_of_version(make_once, inputs, classes, statistics):
    """Graphs by number: 1, 2 (the same weights in another file), 3 (every logit with the other sign: worse).

    Of the encoder as `e1`, and `e2`, whose features are the same for every tile.
    """

    def export(folder):
        torch.manual_seed(0)
        preprocess = preprocess_of(inputs, statistics)
        encoder = Encoder(architecture_of(preprocess.preprocessing))
        classifier = TilePredictor(
            Task(), encoder, "mean", ClassifierHead(readout_dim(encoder, "mean"), len(classes))
        ).eval()
        (linear,) = [module for module in classifier.head.modules() if isinstance(module, torch.nn.Linear)]
        with torch.no_grad():  # untrained, its answers happen to be better with the other sign
            linear.weight.neg_()
        metadata = {
            "inputs": [item.model_dump(mode="json") for item in inputs],
            "modalities": ["s1", "s2"],
            "classes": list(classes),
            "git": {"commit": "c0ffee" * 6, "is_dirty": False},
        }
        graph = export_onnx(DeployablePredictor(preprocess, classifier), opset=17)
        save_onnx(graph, metadata, folder / "1.onnx")
        other = onnx.load(folder / "1.onnx")
        other.doc_string = "2"
        write_graph(other, folder / "2.onnx")
        turned(folder / "1.onnx", folder / "3.onnx")
        model = DeployableEncoder(preprocess, encoder)
        of_encoder = metadata | {"classes": [], "outputs": model.outputs}
        save_onnx(export_onnx(model, opset=17), of_encoder, folder / "e1.onnx")
        blind = onnx.load(folder / "e1.onnx")
        for weight in blind.graph.initializer:
            if weight.name.startswith("encoder.embed."):  # pixels no longer matter
                weight.CopyFrom(onnx.numpy_helper.from_array(np.zeros(weight.dims, np.float32), weight.name))
        write_graph(blind, folder / "e2.onnx")

    folder = make_once("versions", export)
    return {number: folder / f"{number}.onnx" for number in (1, 2, 3, "e1", "e2")}


@pytest.fixture(scope="session")
def registry_template(tmp_path_factory, graph_of_version):
    """A registry with the three versions."""
    folder = tmp_path_factory.mktemp("registry")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        write_json(Path("parity.json"), {"checks": [{"max_abs_error": 1e-6}]})
        for number, graph in graph_of_version.items():
            shutil.copy(graph, "model.onnx")
            register_graph(
                ENCODER if number in ("e1", "e2") else NAME,
                Path("model.onnx"),
                extra_files=[Path("parity.json")],
                tags={},
                experiment="test",
                run_file=Path("none.json"),
            )
    return folder


# Thresholds that the tiny models meet, however busy the machine is: a time is nothing to test.
GATE = {
    "min_by_setting": {"s1+s2": 0.0},
    "max_calibration_error": 1.0,
    "bootstrap_resamples": 50,
    "max_latency_ratio": 1e6,
    "max_latency_ms": 1e9,
}


def lock(*paths):
    """A dvc.lock that names files and folders as they are."""
    outs = [{"path": str(path), "md5": dvc_md5(path)} for path in paths]
    return yaml.safe_dump({"schema": "2.0", "stages": {"made": {"cmd": "", "outs": outs}}})


@pytest.fixture
def checkout(registry_template, shards, pairs, tmp_path, monkeypatch):
    """A committed checkout to work in, with a registry of its own."""
    folder = tmp_path / "checkout"
    shutil.copytree(registry_template / "mlruns", folder / "mlruns")
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    # In one process MLflow keeps where a model's files are: here they would be in another test's copy.
    artifact_stores.clear()
    (folder / ".gitignore").write_text("/mlruns/\n/.fusmae/\n/reports/\n/data\n", encoding="utf-8")
    (folder / "data").mkdir()
    (folder / "data" / "shards").symlink_to(shards)
    write_verdict(Path("data/verdict.json"), Path("data/shards"))
    write_index(pairs, Path("data/index.parquet"))
    made = (Path("data/verdict.json"), Path("data/index.parquet"), Path("data/shards"))
    Path("dvc.lock").write_text(lock(*made), encoding="utf-8")
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["gate"] |= GATE
    params["encoder_gate"] |= {key: value for key, value in GATE.items() if key in params["encoder_gate"]}
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    git("init", "-q", cwd=folder)
    git("config", "user.email", "a.person@example.org", cwd=folder)
    git("add", ".", cwd=folder)
    git("commit", "-q", "-m", "first", cwd=folder)
    return folder


def promoted_version(config, name, version, **changes):
    """Promote a version in the checkout; options of `fusmae promote` may be given."""
    settings = {"force": False, "reason": "", "dry_run": False, "params": Path("params.yaml"), "experiment": ""}
    settings |= {
        "shards": Path("data/shards"),
        "index": Path("data/index.parquet"),
        "verdict": Path("data/verdict.json"),
    }
    return promote_version(config, name=name, version=version, reports=Path("reports/gate"), **settings | changes)


@pytest.fixture
def config(checkout):
    """The checkout's params.yaml."""
    return load_config(checkout / "params.yaml")
