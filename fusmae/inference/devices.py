"""Opens a graph in onnxruntime on the device that is asked for: the CPU, or a GPU that onnxruntime can use."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Literal, get_args

from fusmae.errors import ConfigError, ExportError
from fusmae.runs.environment import ONNXRUNTIME_GPU

Device = Literal["auto", "cpu", "cuda"]
"""Where a graph runs: `auto` is a GPU if onnxruntime can use one, else the CPU."""
PROVIDERS: dict[Literal["cpu", "cuda"], str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
"""Names of onnxruntime's execution providers."""
# TF32 would round the factors of matrix products to 11 bits: too coarse for parity with torch.
_CUDA_OPTIONS = {"use_tf32": "0"}
# Levels of onnxruntime's log; the second is what it begins with.
_FATAL, _WARNING = 4, 2


def open_graph(path: Path, num_threads: int, device: Device | str) -> tuple[Any, Literal["cpu", "cuda"]]:
    """Open an ONNX file as onnxruntime's session, and the device on which it runs.

    Raises:
        ConfigError: there is no such device, or onnxruntime can't use it.
        ExportError: the file is no graph that onnxruntime can run.
    """
    import onnxruntime

    if device not in get_args(Device):
        raise ConfigError(
            f"onnxruntime has no device {device!r} for {path}.", got=device, expected=", ".join(get_args(Device))
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    # Threads that wait for an operator spin, which makes one tile 1.5 times as fast. Without this option they also spin
    # after a call, and occupy the cores that the next work needs.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    has_cuda = PROVIDERS["cuda"] in onnxruntime.get_available_providers()
    if device == "cuda" and not has_cuda:
        raise ConfigError(
            "This onnxruntime is built for the CPU alone.",
            got=f"onnxruntime {onnxruntime.__version__} with {', '.join(onnxruntime.get_available_providers())}",
            expected=f"{PROVIDERS['cuda']}, of the package onnxruntime-gpu in the extra `gpu`",
            hint=f"pip uninstall --yes onnxruntime onnxruntime-gpu && pip install '{ONNXRUNTIME_GPU}'; "
            "or choose the device cpu",
        )
    if device == "cpu" or not has_cuda:
        return _session(path, options, [PROVIDERS["cpu"]]), "cpu"
    with _kept_quiet(device):
        # Finds the CUDA libraries of the extra `gpu`, or those that torch brought, wherever they are installed.
        onnxruntime.preload_dlls()
        session = _session(path, options, [(PROVIDERS["cuda"], _CUDA_OPTIONS), PROVIDERS["cpu"]])
    if session.get_providers()[0] == PROVIDERS["cuda"]:
        session.disable_fallback()  # else a batch that fails on the GPU, and all later ones, would run on the CPU
        return session, "cuda"
    if device == "cuda":
        raise ConfigError(
            "onnxruntime can't use the GPU: it would run the graph on the CPU.",
            got=f"{', '.join(session.get_providers())}; onnxruntime's message above names what is missing",
            expected=PROVIDERS["cuda"],
            hint=f"pip install '{ONNXRUNTIME_GPU}' installs CUDA's libraries; nvidia-smi must show a GPU, "
            "and a driver for that CUDA; or choose the device cpu",
        )
    return session, "cpu"


@contextmanager
def _kept_quiet(device: str) -> Iterator[None]:
    """Keep onnxruntime's messages about a GPU from standard output; with `auto`, which needs none, suppress them."""
    import onnxruntime

    if device == "auto":
        onnxruntime.set_default_logger_severity(_FATAL)
    try:
        with (
            Path(os.devnull).open("w", encoding="utf-8") as nowhere,
            redirect_stdout(nowhere if device == "auto" else sys.stderr),
        ):
            yield
    finally:
        onnxruntime.set_default_logger_severity(_WARNING)


@contextmanager
def gpu_errors_named(device: str) -> Iterator[None]:
    """Raise onnxruntime's errors on a GPU as ConfigError: on checked arrays, they are those of the device."""
    try:
        yield
    except Exception as error:
        if device != "cuda" or not _is_of_onnxruntime(error):
            raise
        raise ConfigError(
            f"The GPU could not run the graph: {str(error).splitlines()[0]}",
            hint="nvidia-smi shows which programs use its memory; or choose the device cpu",
        ) from error


def _session(path: Path, options: Any, providers: list[Any]) -> Any:
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:
        if "External data path" in str(error):
            raise ExportError(
                f"{path} keeps weights in a file outside of its folder, or in one that is not there.",
                got=str(error).splitlines()[0].partition("Error: ")[2],
                expected="all weights in the ONNX file, as `fusmae export` writes it",
                hint="don't use this file; get the model from the registry, or dvc repro export",
            ) from error
        if not path.is_file() or _is_of_onnxruntime(error):
            raise ExportError(
                f"{path} is no graph that onnxruntime can run: {str(error).splitlines()[0]}", hint="dvc repro export"
            ) from error
        raise


def _is_of_onnxruntime(error: Exception) -> bool:
    """Whether onnxruntime raised an error: it has one class per status code, without a common base class."""
    return type(error).__module__.partition(".")[0] == "onnxruntime"
