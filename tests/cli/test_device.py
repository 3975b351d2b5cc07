"""`--device` of the commands that run a model: `cuda` without a GPU stops each of them before it writes anything."""

import onnxruntime
import pytest
from typer.testing import CliRunner

from fusmae.cli import app
from fusmae.errors import ConfigError
from tests.cli.conftest import ROOT

COMMANDS = {
    "predict": ("--s1", "scenes/s1.tif", "--out", "map.tif"),
    "embed": ("--s1", "scenes/s1.tif", "--out", "table.parquet"),
    "drift": ("--s1", "scenes/s1.tif", "--out", "drift"),
    "serve": ("--port", "0"),
}


@pytest.fixture
def invoke(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        return CliRunner().invoke(app, ["--params", str(ROOT / "params.yaml"), *map(str, arguments)])

    return run


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="a build for GPUs")
@pytest.mark.parametrize("command", COMMANDS)
def test_cuda_without_a_gpu_is_refused_and_nothing_is_written(invoke, exported, tmp_path, command):
    done = invoke(command, "--model", exported.path, *COMMANDS[command], "--device", "cuda")
    assert isinstance(done.exception, ConfigError)
    assert "extra `gpu`" in str(done.exception)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_another_device_is_refused_by_its_name(invoke, exported, command):
    done = invoke(command, "--model", exported.path, *COMMANDS[command], "--device", "gpu")
    assert done.exit_code == 2
    assert "'gpu' is not one of 'auto', 'cpu', 'cuda'" in " ".join(done.output.replace("│", " ").split())
