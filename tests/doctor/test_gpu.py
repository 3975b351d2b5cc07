import pytest
import torch

from fusmae.doctor import machine
from fusmae.doctor.machine import check_gpu
from tests.doctor.conftest import only


@pytest.fixture
def device(monkeypatch):
    """Lets a device node be there; no driver stands behind it."""
    monkeypatch.setattr(machine, "gpu_devices", lambda: ["/dev/nvidia0"])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def no_device(monkeypatch):
    monkeypatch.setattr(machine, "gpu_devices", list)


def test_without_a_gpu_training_runs_on_the_cpu(no_device):
    assert only(check_gpu("auto")).found == "no GPU: training runs on the CPU"


def test_a_gpu_that_params_ask_for_and_is_not_there_is_an_error(no_device):
    assert only(check_gpu("gpu")).status == "error"


def test_a_gpu_that_params_do_not_use_is_not_examined(device):
    assert only(check_gpu("cpu")).status == "skipped"


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA works here")
def test_a_gpu_whose_driver_does_not_answer_is_an_error_with_torch_s_reason(device):
    found = only(check_gpu("auto"))
    assert found.status == "error"
    assert "/dev/nvidia0 is there, and CUDA is not usable" in found.found
    assert torch.version.cuda in found.expected


def test_a_torch_without_cuda_is_an_error_where_a_gpu_is(device, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    found = only(check_gpu("auto"))
    assert found.status == "error"
    assert "built without CUDA" in found.found


def test_a_gpu_that_is_hidden_is_a_warning(device, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert only(check_gpu("auto")).mend == "unset CUDA_VISIBLE_DEVICES"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_that_works_is_named_with_driver_and_cuda():
    found = only(check_gpu("auto"))
    assert found.status == "ok"
    assert torch.cuda.get_device_name() in found.found
