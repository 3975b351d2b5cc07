"""What a process sets before it imports any large library: environment variables, and how memory is freed."""

import atexit
import ctypes
import gc
import os
from importlib import metadata
from pathlib import Path
from urllib.request import getproxies_environment, proxy_bypass

THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
"""Host names of servers on this machine."""


ONNXRUNTIME_GPU = "onnxruntime-gpu[cuda,cudnn]>=1.31,<1.32"
"""onnxruntime for NVIDIA GPUs with CUDA's libraries, as pip installs it: the extra `gpu`."""


def installed_version(package: str) -> str:
    """Version of an installed package; onnxruntime has another name where it is built for GPUs.

    Raises:
        PackageNotFoundError: it is not installed.
    """
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        if package != "onnxruntime":
            raise
        return metadata.version("onnxruntime-gpu")


def keep_caches_inside(folder: Path) -> None:
    """Keep libraries' caches in the project's folder, send no usage reports, print less."""
    defaults = {
        "MPLCONFIGDIR": str(folder / ".fusmae" / "matplotlib"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "DO_NOT_TRACK": "true",
        "ORT_DISABLE_TELEMETRY": "1",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def wait_without_spinning() -> None:
    """Let OpenMP's threads sleep while they wait for one another; must be called before the first import of torch.

    By default they spin: beside any other load they occupy the core that the awaited thread needs, and training takes
    several times as long (benchmarks/threads.py). Results stay the same to the last bit.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def exclude_this_machine() -> None:
    """Make requests to this machine's own servers bypass the proxies that the environment names.

    No proxy can reach Prefect's temporary server, an MLflow server beside a training, or a mirror on localhost. Hosts
    that are excluded already stay excluded.
    """
    # Set without need, the variable would hide the proxies of the system's settings on macOS.
    if proxies():
        os.environ.update(exclusions())


def exclusions() -> dict[str, str]:
    """Values of `no_proxy` and `NO_PROXY` with this machine's names added; some libraries read one, some the other."""
    lower, upper = (os.environ.get(name, "") for name in ("no_proxy", "NO_PROXY"))
    return {"no_proxy": _with_this_machine(lower or upper), "NO_PROXY": _with_this_machine(upper or lower)}


def proxies() -> dict[str, str]:
    """The environment's proxies: address by URL scheme."""
    return {scheme: address for scheme, address in getproxies_environment().items() if scheme != "no"}


def sent_to_proxy() -> tuple[str, ...]:
    """Those names of this machine to which a request would go through a proxy."""
    return tuple(name for name in THIS_MACHINE if not proxy_bypass(name)) if proxies() else ()


def _with_this_machine(excluded: str) -> str:
    names = [name.strip() for name in excluded.split(",") if name.strip()]
    # Some libraries ignore the star when it stands among other names.
    return "*" if "*" in names else ",".join(dict.fromkeys([*names, *THIS_MACHINE]))


# From malloc.h of the GNU C library.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 2**31 - 1  # the largest that mallopt takes


def keep_freed_memory() -> None:
    """Keep memory that a batch freed for the next batch; does nothing where the C library is not GNU's.

    Otherwise the pages of every large array go back to the kernel, and it must zero and map them again for each batch:
    on a CPU this takes as long as reading and normalising the batch. The process's peak memory does not grow.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_MMAP_THRESHOLD, _KEPT_BYTES)
        set_option(_TRIM_THRESHOLD, _KEPT_BYTES)


def collect_garbage_rarely() -> None:
    """Search for reference cycles after every 50,000 new objects instead of 700, and not at the end of the process.

    Importing torch, Lightning and MLflow makes hundreds of thousands of objects that stay, and by default Python
    searches them again and again: a quarter of the time of a stage that does little. Memory that is in no cycle, which
    is that of arrays and tensors, is freed as before.
    """
    gc.set_threshold(50_000, 20, 50)
    atexit.register(gc.freeze)
