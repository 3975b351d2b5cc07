"""Whether the machine has what training needs: disk, memory, open files, cores, a usable GPU, no proxy in the way."""

import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from fusmae.doctor.finding import Finding, Status, described, judged
from fusmae.doctor.repository import nearest, open_project
from fusmae.doctor.versions import reinstall
from fusmae.runs.environment import exclusions, proxies

_GB = 1e9
_WANTED_GB, _LEAST_GB = 10, 1
_WANTED_INODES = 100_000
_WANTED_SHARED_GB = 1
_WANTED_FILES = 1024
_WANTED_MEMORY_GB = 4
_SHARED = Path("/dev/shm")  # noqa: S108
_CGROUP = Path("/sys/fs/cgroup")
_DRIVER = Path("/proc/driver/nvidia/version")


def check_disk() -> Iterator[Finding]:
    """Check free space and inodes for the project, the cache and the temporary folder, once per disk."""
    project = open_project()
    cache = nearest(project.cache.local.path) if project else Path.cwd()
    by_disk: dict[int, tuple[str, Path]] = {}
    for name, folder in {"project": Path.cwd(), "cache": cache, "temporary": Path(tempfile.gettempdir())}.items():
        by_disk.setdefault(folder.stat().st_dev, (name, folder))
    for name, folder in by_disk.values():
        free_gb, state = shutil.disk_usage(folder).free / _GB, os.statvfs(folder)
        has_space = free_gb >= _WANTED_GB
        # File systems without a fixed number of inodes report 0.
        has_inodes = state.f_files == 0 or state.f_favail >= _WANTED_INODES
        found, expected = f"{free_gb:.1f} GB free at {folder}", f"{_WANTED_GB} GB free"
        if has_space and not has_inodes:
            found = f"{state.f_favail:,} inodes free at {folder}"
            expected = f"{_WANTED_INODES:,}: data sets have many small files"
        fault: Status = "error" if free_gb < _LEAST_GB else "warning"
        mend = f"dvc gc --workspace --all-commits   # or: du -xhd1 {folder} | sort -h"
        yield judged(has_space and has_inodes, f"disk {name}", fault, found, expected, mend)


def check_shared_memory(num_workers: int) -> Iterator[Finding]:
    """Check the shared memory for the batches that `num_workers` loader workers pass on."""
    if not _SHARED.is_dir():
        yield Finding("shared memory", "skipped", f"no {_SHARED} on this system")
        return
    total_gb = shutil.disk_usage(_SHARED).total / _GB
    is_well = total_gb >= _WANTED_SHARED_GB or not num_workers
    found = f"{total_gb:.2f} GB, for {num_workers} loader workers"
    mend = "docker run --shm-size=8g …   # or runtime.num_workers: 0"
    yield judged(is_well, "shared memory", "error", found, f"{_WANTED_SHARED_GB} GB", mend)


def check_open_files() -> Iterator[Finding]:
    """Check how many files a process may have open."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    is_unlimited = soft == resource.RLIM_INFINITY
    found, expected = "no limit" if is_unlimited else f"up to {soft:,}", f"{_WANTED_FILES:,}: shards are mapped"
    mend = f"ulimit -n {_WANTED_FILES if hard == resource.RLIM_INFINITY else min(hard, _WANTED_FILES)}"
    yield judged(is_unlimited or soft >= _WANTED_FILES, "open files", "warning", found, expected, mend)


def check_cores() -> Iterator[Finding]:
    """Check the number of cores; in a container with a CPU limit, torch starts threads for all cores of the host."""
    quota, _, period = _read(_CGROUP / "cpu.max").partition(" ")
    cores = len(os.sched_getaffinity(0))
    share = int(quota) / int(period) if quota.isdigit() else cores
    threads = int(os.environ.get("OMP_NUM_THREADS") or cores)
    is_well = not quota.isdigit() or threads <= max(1, round(share))
    found = f"{threads} threads for {share:g} cores{'' if is_well else ': this container has no more'}"
    mend = f"export OMP_NUM_THREADS={max(1, int(share))}"
    yield judged(is_well, "cores", "warning", found, "no more threads than cores", mend)


def check_memory() -> Iterator[Finding]:
    """Check free memory, or what remains below a container's limit."""
    import psutil

    free_gb = psutil.virtual_memory().available / _GB
    limit, used = _read(_CGROUP / "memory.max"), _read(_CGROUP / "memory.current")
    if limit.isdigit() and used.isdigit():
        free_gb = min(free_gb, (int(limit) - int(used)) / _GB)
    found, mend = f"{free_gb:.1f} GB free", "ps aux --sort=-rss | head   # or a smaller batch_size"
    yield judged(free_gb >= _WANTED_MEMORY_GB, "memory", "warning", found, f"{_WANTED_MEMORY_GB} GB", mend)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def gpu_devices() -> list[str]:
    """Device files of NVIDIA GPUs; inside WSL there is one for all GPUs."""
    return sorted(str(path) for pattern in ("nvidia[0-9]*", "dxg") for path in Path("/dev").glob(pattern))


def check_gpu(accelerator: str) -> Iterator[Finding]:
    """Check the driver, CUDA and torch's build, where there is a GPU that `runtime.accelerator` does not exclude."""
    devices = gpu_devices()
    if not devices and accelerator == "gpu":
        found, expected = "no GPU, and runtime.accelerator asks for one", "a GPU, or accelerator auto"
        yield Finding("gpu", "error", found, expected, "docker run --gpus all …   # or runtime.accelerator: auto")
    elif not devices:
        yield Finding("gpu", "skipped", "no GPU: training runs on the CPU")
    elif accelerator == "cpu":
        yield Finding("gpu", "skipped", f"{len(devices)} there; runtime.accelerator: cpu")
    else:
        yield _check_cuda(devices[0])


def _check_cuda(device: str) -> Finding:
    import torch

    built_for = torch.version.cuda
    if built_for is None:
        found = f"{device} is there, and torch {torch.__version__} is built without CUDA"
        return Finding("gpu", "error", found, "a torch with CUDA", reinstall("torch"))
    if os.environ.get("CUDA_VISIBLE_DEVICES") in {"", "-1"}:
        found = f"CUDA_VISIBLE_DEVICES hides {device}"
        return Finding("gpu", "warning", found, "a GPU that torch sees", "unset CUDA_VISIBLE_DEVICES")
    words = _read(_DRIVER).split()
    driver = f"driver {next((word for word in words if word[:1].isdigit() and '.' in word), 'of no known version')}"
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]  # `is_available` gives no reason
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        torch.ones(1, device="cuda").add_(1).item()
    # CUDA's errors are RuntimeErrors and AssertionErrors.
    except (RuntimeError, AssertionError) as error:
        found = f"{device} is there, and CUDA is not usable: {described(error)}; {driver}"
        expected = f"a driver for CUDA {built_for}, which torch {torch.__version__} is built for"
        return Finding("gpu", "error", found, expected, "nvidia-smi   # then update the driver or restart the machine")
    return Finding("gpu", "ok", f"{', '.join(names)}; {driver}, torch is built for CUDA {built_for}")


def check_proxies(sent: Sequence[str]) -> Iterator[Finding]:
    """Check the proxies by scheme, and whether requests to this machine go through one.

    Args:
        sent: names of this machine to which requests of other programs go through a proxy.
    """
    by_socks = [scheme for scheme, address in sorted(proxies().items()) if address.lower().startswith("socks")]
    # Prefect's client, httpx, sets up every proxy at its start, even with exclusions.
    if by_socks and find_spec("socksio") is None:
        names = " ".join(f"{scheme}_proxy {scheme.upper()}_PROXY" for scheme in by_socks)
        found = f"{' and '.join(by_socks)} by SOCKS, without socksio: no flow starts"
        mend = f"unset {names}   # or: pip install socksio"
        yield Finding("proxies by SOCKS", "warning", found, "HTTP proxies, or the package socksio", mend)
    named = ", ".join(f"{scheme} by {address}" for scheme, address in sorted(proxies().items()))
    if not named:
        yield Finding("proxies", "ok", "none in the environment")
    elif not sent:
        yield Finding("proxies", "ok", f"{named}; not for this machine's own servers")
    else:
        found = f"{named}, also for {', '.join(sent)}; fusmae and its flows bypass it, prefect, mlflow and dvc don't"
        mend = " ".join(f"{name}={shlex.quote(value)}" for name, value in exclusions().items())
        yield Finding("proxies", "warning", found, "no proxy for this machine's own servers", f"export {mend}")
