"""The device that torch computes on, by `runtime.accelerator`."""

import torch

from fusmae.errors import ConfigError


def device_of(accelerator: str) -> torch.device:
    """The device: a GPU where there is one, unless the accelerator is `cpu`.

    Raises:
        ConfigError: the accelerator is `gpu`, and torch sees none.
    """
    has_gpu = torch.cuda.is_available()
    if accelerator == "gpu" and not has_gpu:
        raise ConfigError(
            "runtime.accelerator asks for a GPU, and torch sees none.",
            got=f"torch {torch.__version__}",
            expected="a GPU that torch can use",
            hint="fusmae doctor says what is missing; or runtime.accelerator: auto",
        )
    return torch.device("cuda" if accelerator != "cpu" and has_gpu else "cpu")
