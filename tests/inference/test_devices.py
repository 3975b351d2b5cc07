"""The device that a session runs on: what is asked for, or an error; never another one in silence.

No GPU has run these tests. Where one is pretended, only onnxruntime's list of providers is: its sessions are real, and
do with a provider that they can't load what they do with CUDA's on a machine without a GPU.
"""

import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from fusmae.errors import ConfigError, ExportError
from fusmae.inference.map.predict import Model, predict_map
from fusmae.inference.map.progress import Work
from fusmae.inference.session import CUDA_PART, Session
from fusmae.runs.environment import ONNXRUNTIME_GPU

CUDA = "CUDAExecutionProvider"
HAS_CUDA = CUDA in onnxruntime.get_available_providers()
no_gpu_build = pytest.mark.skipif(HAS_CUDA, reason="onnxruntime is built for GPUs here")


@pytest.fixture
def cuda_listed(monkeypatch):
    """onnxruntime lists CUDA's provider and can't load it, as onnxruntime-gpu without a GPU or CUDA's libraries."""
    if HAS_CUDA:
        pytest.skip("onnxruntime is built for GPUs here")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, "CPUExecutionProvider"])


@pytest.fixture
def pretended_gpu(monkeypatch, cuda_listed):
    """Sessions say that they run by CUDA's provider; they run on the CPU. Gives what they were opened with."""
    opened = []
    real = onnxruntime.InferenceSession

    class OnGpu(real):
        def __init__(self, path, options, providers):
            opened.append(providers)
            super().__init__(path, options, providers=["CPUExecutionProvider"])
            self.names = [item if isinstance(item, str) else item[0] for item in providers]

        def get_providers(self):
            return self.names

    monkeypatch.setattr(onnxruntime, "InferenceSession", OnGpu)
    return opened


def test_the_cpu_is_used_unless_a_device_is_named(exported):
    assert Session(exported.path).device == "cpu"


@no_gpu_build
def test_cuda_with_an_onnxruntime_for_the_cpu_names_the_extra_to_install(exported):
    with pytest.raises(
        ConfigError, match=r"built for the CPU alone(?s:.*)extra `gpu`(?s:.*)'onnxruntime-gpu\[cuda,cudnn\]>="
    ):
        Session(exported.path, device="cuda")


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_cuda_that_onnxruntime_lists_and_can_not_load_is_an_error_not_a_run_on_the_cpu(exported, cuda_listed):
    with pytest.raises(ConfigError, match=r"can't use the GPU(?s:.*)got: +CPUExecutionProvider"):
        Session(exported.path, device="cuda")


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_auto_without_a_gpu_is_the_cpu_to_the_last_bit_and_silent(exported, cuda_listed, capfd):
    session, pixels = Session(exported.path, device="auto"), exported.pixels(3)
    assert session.device == "cpu"
    assert np.array_equal(session.run(pixels)["logits"], exported.session.run(pixels)["logits"])
    assert capfd.readouterr() == ("", "")


def test_the_package_that_the_error_names_is_the_extra():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["optional-dependencies"]["gpu"] == [ONNXRUNTIME_GPU]
    assert {item for item in project["optional-dependencies"]["serve"] if "onnxruntime" in item} == {
        ONNXRUNTIME_GPU.replace("-gpu[cuda,cudnn]", "")
    }


def test_a_device_that_is_none_is_refused(exported):
    with pytest.raises(ConfigError, match=r"no device 'tpu'(?s:.*)expected: +auto, cpu, cuda"):
        Session(exported.path, device="tpu")


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_a_gpu_is_asked_for_exact_float32(exported, pretended_gpu, device):
    assert Session(exported.path, 4, device).device == "cuda"
    # One session, whatever the number of threads.
    assert pretended_gpu == [[(CUDA, {"use_tf32": "0"}), "CPUExecutionProvider"]]


def test_a_batch_for_a_gpu_is_cut_into_parts_of_a_size(exported, pretended_gpu, monkeypatch):
    session, sizes = Session(exported.path, device="cuda"), []
    inner = session._session

    def run(names, part):
        sizes.append(len(part["presence"]))
        return inner.run(names, part)

    session._session = session._single = SimpleNamespace(run=run, get_outputs=inner.get_outputs)
    pixels = exported.pixels(CUDA_PART + 3)
    found = session.run(pixels)["logits"]
    assert sizes == [CUDA_PART, 3]
    np.testing.assert_allclose(found, exported.session.run(pixels)["logits"], atol=1e-5)


def test_a_batch_that_a_gpu_can_not_run_is_an_error_not_a_run_on_the_cpu(exported, pretended_gpu):
    session = Session(exported.path, device="cuda")
    inner = session._session
    assert inner._enable_fallback is False

    def fail(names, part):
        return inner.run(["absent"], part)  # raises one of onnxruntime's errors

    session._session = session._single = SimpleNamespace(run=fail, get_outputs=inner.get_outputs)
    with pytest.raises(ConfigError, match=r"The GPU could not run the graph(?s:.*)choose the device cpu"):
        session.run(exported.pixels(1))


def test_a_file_that_is_no_graph_is_named_on_a_gpu_too(tmp_path, cuda_listed):
    (tmp_path / "no.onnx").write_bytes(b"no graph")
    with pytest.raises(ExportError, match=r"no\.onnx is no graph"):
        Session(tmp_path / "no.onnx", device="auto")


@pytest.mark.parametrize(("begun_on", "num_kept"), [("cuda", 0), ("cpu", 2)])
def test_a_map_goes_on_only_on_the_device_that_began_it(
    tmp_path, scenes, exported, pretended_gpu, monkeypatch, begun_on, num_kept
):
    def predict(device):
        session = Session(exported.path, device=device)
        return predict_map(Model(session, "tiny/1", "0" * 64), scenes.paths, tmp_path / "map.tif")

    save, folders = Work.save, []

    def save_twice(work, unit, result):
        if len(folders) == 2:
            raise KeyboardInterrupt
        folders.append(work.folder)
        save(work, unit, result)

    monkeypatch.setattr(Work, "save", save_twice)
    with pytest.raises(KeyboardInterrupt):
        predict(begun_on)
    monkeypatch.setattr(Work, "save", save)
    assert len(list(folders[0].glob("unit-*"))) == 2
    assert predict("cpu").num_kept == num_kept
