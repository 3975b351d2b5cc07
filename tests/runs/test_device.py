"""The device that torch computes on."""

import pytest
import torch

from fusmae.errors import ConfigError
from fusmae.runs.device import device_of
from fusmae.runs.tracking import describe_hardware

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


def test_without_a_gpu_auto_is_the_cpu():
    assert device_of("auto") == device_of("cpu") == torch.device("cpu")


def test_a_gpu_that_is_asked_for_and_not_there_is_an_error():
    with pytest.raises(ConfigError, match=r"asks for a GPU(?s:.*)runtime.accelerator: auto"):
        device_of("gpu")
    with pytest.raises(ConfigError, match="asks for a GPU"):
        describe_hardware("gpu")
