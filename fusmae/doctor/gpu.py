"""Whether an existing GPU can be used."""

import os
from collections.abc import Iterator
from pathlib import Path

from fusmae.doctor.finding import Finding, described
from fusmae.doctor.versions import reinstall

_DRIVER = Path("/proc/driver/nvidia/version")


def gpu_devices() -> list[str]:
    """Device files of NVIDIA GPUs; inside WSL there is one for all GPUs."""
    return sorted(str(path) for pattern in ("nvidia[0-9]*", "dxg") for path in Path("/dev").glob(pattern))


def check_gpu(accelerator: str) -> Iterator[Finding]:
    """Check the driver, CUDA and torch's build, where there is a GPU.

    Args:
        accelerator: value of `runtime.accelerator` in params.yaml.
    """
    devices = gpu_devices()
    if not devices and accelerator == "gpu":
        found, expected = "no GPU, and runtime.accelerator asks for one", "a GPU, or accelerator auto"
        yield Finding("gpu", "error", found, expected, "docker run --gpus all …   # or runtime.accelerator: auto")
    elif not devices:
        yield Finding("gpu", "skipped", "no GPU: training runs on the CPU")
    elif accelerator == "cpu":
        yield Finding("gpu", "skipped", f"{len(devices)} there; runtime.accelerator: cpu")
    else:
        yield _check_cuda(devices)


def _check_cuda(devices: list[str]) -> Finding:
    import torch

    built_for = torch.version.cuda
    if built_for is None:
        found = f"{devices[0]} is there, and torch {torch.__version__} is built without CUDA"
        return Finding("gpu", "error", found, "a torch with CUDA", reinstall("torch"))
    if os.environ.get("CUDA_VISIBLE_DEVICES") in {"", "-1"}:
        found = f"CUDA_VISIBLE_DEVICES hides {devices[0]}"
        return Finding("gpu", "warning", found, "a GPU that torch sees", "unset CUDA_VISIBLE_DEVICES")
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]  # `is_available` gives no reason
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        torch.ones(1, device="cuda").add_(1).item()
    # CUDA's errors are RuntimeErrors and AssertionErrors.
    except (RuntimeError, AssertionError) as error:
        found = f"{devices[0]} is there, and CUDA is not usable: {described(error)}; {_driver()}"
        expected = f"a driver for CUDA {built_for}, which torch {torch.__version__} is built for"
        return Finding("gpu", "error", found, expected, "nvidia-smi   # then update the driver or restart the machine")
    return Finding("gpu", "ok", f"{', '.join(names)}; {_driver()}, torch is built for CUDA {built_for}")


def _driver() -> str:
    if not _DRIVER.exists():
        return "no driver's version"
    words = _DRIVER.read_text(encoding="utf-8").split()
    return f"driver {next((word for word in words if word[:1].isdigit() and '.' in word), '?')}"
