"""Whether the machine has what training needs: disk, shared memory, open files, cores, memory."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fusmae.doctor.dvc_cache import cache_folder
from fusmae.doctor.finding import Finding, Status

_GB = 1e9
_WANTED_GB, _LEAST_GB = 10, 1
_WANTED_INODES = 100_000
_WANTED_SHARED_GB = 1
_WANTED_FILES = 1024
_WANTED_MEMORY_GB = 4
_SHARED = Path("/dev/shm")  # noqa: S108
_CGROUP = Path("/sys/fs/cgroup")


def check_disk() -> Iterator[Finding]:
    """Check free space and inodes for the project, the cache and the temporary folder, once per disk."""
    places = {"project": Path.cwd(), "cache": cache_folder(), "temporary": Path(tempfile.gettempdir())}
    seen: set[int] = set()
    for name, folder in places.items():
        if folder is None or folder.stat().st_dev in seen:
            continue
        seen.add(folder.stat().st_dev)
        yield _disk_finding(f"disk {name}", folder)


def _disk_finding(name: str, folder: Path) -> Finding:
    free_gb, state = shutil.disk_usage(folder).free / _GB, os.statvfs(folder)
    mend = f"dvc gc --workspace --all-commits   # or: du -xhd1 {folder} | sort -h"
    if free_gb < _WANTED_GB:
        status: Status = "error" if free_gb < _LEAST_GB else "warning"
        return Finding(name, status, f"{free_gb:.1f} GB free at {folder}", f"{_WANTED_GB} GB free", mend)
    # File systems without a fixed number of inodes report 0.
    if state.f_files > 0 and state.f_favail < _WANTED_INODES:
        found = f"{state.f_favail:,} inodes free at {folder}"
        return Finding(name, "warning", found, f"{_WANTED_INODES:,}: data sets have many small files", mend)
    return Finding(name, "ok", f"{free_gb:.0f} GB free at {folder}")


def check_shared_memory(num_workers: int) -> Iterator[Finding]:
    """Check the shared memory for the batches that loader workers pass on.

    Args:
        num_workers: value of `runtime.num_workers` in params.yaml.
    """
    if not _SHARED.is_dir():
        yield Finding("shared memory", "skipped", f"no {_SHARED} on this system")
        return
    total_gb = shutil.disk_usage(_SHARED).total / _GB
    if total_gb >= _WANTED_SHARED_GB or not num_workers:
        yield Finding("shared memory", "ok", f"{total_gb:.1f} GB, for {num_workers} loader workers")
        return
    found = f"{total_gb:.2f} GB, for {num_workers} loader workers"
    mend = "docker run --shm-size=8g …   # or runtime.num_workers: 0"
    yield Finding("shared memory", "error", found, f"{_WANTED_SHARED_GB} GB", mend)


def check_open_files() -> Iterator[Finding]:
    """Check how many files a process may have open."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= _WANTED_FILES:
        yield Finding("open files", "ok", "no limit" if soft == resource.RLIM_INFINITY else f"up to {soft:,}")
    else:
        mend = f"ulimit -n {_WANTED_FILES if hard == resource.RLIM_INFINITY else min(hard, _WANTED_FILES)}"
        yield Finding("open files", "warning", f"up to {soft:,}", f"{_WANTED_FILES:,}: shards are mapped", mend)


def check_cores() -> Iterator[Finding]:
    """Check the number of cores; in a container with a CPU limit, torch starts threads for all cores of the host."""
    seen, share = len(os.sched_getaffinity(0)), _cpu_share()
    threads = int(os.environ.get("OMP_NUM_THREADS") or seen)
    if share is None or threads <= max(1, round(share)):
        yield Finding("cores", "ok", f"{seen} cores, {threads} threads")
    else:
        found = f"{threads} threads for {share:g} cores: this container has no more"
        mend = f"export OMP_NUM_THREADS={max(1, int(share))}"
        yield Finding("cores", "warning", found, "no more threads than cores", mend)


def check_memory() -> Iterator[Finding]:
    """Check free memory, or what remains below a container's limit."""
    import psutil

    free_gb = psutil.virtual_memory().available / _GB
    limit, used = _read(_CGROUP / "memory.max"), _read(_CGROUP / "memory.current")
    if limit.isdigit() and used.isdigit():
        free_gb = min(free_gb, (int(limit) - int(used)) / _GB)
    if free_gb >= _WANTED_MEMORY_GB:
        yield Finding("memory", "ok", f"{free_gb:.0f} GB free")
    else:
        mend = "ps aux --sort=-rss | head   # or a smaller batch_size"
        yield Finding("memory", "warning", f"{free_gb:.1f} GB free", f"{_WANTED_MEMORY_GB} GB", mend)


def _cpu_share() -> float | None:
    """Number of cores that a container may use at a time; None where there is no limit."""
    quota, _, period = _read(_CGROUP / "cpu.max").partition(" ")
    return int(quota) / int(period) if quota.isdigit() else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
