"""The hardware of a run: facts that explain why results of two machines differ in their last bits."""

import platform
from pathlib import Path

import torch

from fusmae.runs.distributed import ranks


def describe_hardware(accelerator: str) -> dict[str, str]:
    """Device, threads and processes, as tags of a run.

    Args:
        accelerator: the trainer's setting: auto, cpu or gpu.
    """
    is_on_gpu = accelerator != "cpu" and torch.cuda.is_available()
    device = torch.cuda.get_device_name() if is_on_gpu else _cpu_name()
    return {
        "fusmae.device": device,
        "fusmae.num_threads": str(torch.get_num_threads()),
        "fusmae.num_processes": str(ranks().num_ranks),
    }


def _cpu_name() -> str:
    listed = Path("/proc/cpuinfo")
    if listed.exists():
        for line in listed.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
