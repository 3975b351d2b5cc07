"""Tell locks of DVC that a killed process left behind from those of a running process."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fusmae.doctor.finding import Finding
from fusmae.doctor.repository import open_project

_EXPECTED = "no lock, unless DVC works here or on another machine that shares this folder"


def check_locks() -> Iterator[Finding]:
    """Check the repository's lock, and the paths that the file rwlock lists as in use."""
    project = open_project()
    if project is None:
        yield Finding("dvc locks", "skipped", "no DVC project")
        return
    folder, root = Path(project.tmp_dir), Path(project.root_dir)
    is_by_file = project.config["core"].get("hardlink_lock", False)
    for name in ("lock", "rwlock.lock"):
        path = folder / name
        if path.exists():
            yield _check_file(path, root) if is_by_file else _check_held(path)
    yield from _check_rwlock(folder / "rwlock")


def _check_held(path: Path) -> Finding:
    """Check a lock of the kernel, which ends with its process; the file alone stays and does not mean a lock."""
    import fcntl

    import psutil

    with path.open(encoding="utf-8") as file:
        pid = _number(file.read())
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if pid and psutil.pid_exists(pid):
                return Finding(f"dvc {path.name}", "ok", f"held by process {pid}, which runs")
            found = f"held, though process {pid or '?'} has ended: a child of it lives"
            return Finding(f"dvc {path.name}", "error", found, _EXPECTED, f"fuser -v {path}   # then end that process")
    return Finding(f"dvc {path.name}", "ok", "free")


def _check_file(path: Path, root: Path) -> Finding:
    """Check a lock with `core.hardlink_lock`: the file itself is the lock, and stays when its process is killed."""
    running = _dvc_processes(root)
    if running:
        return Finding(f"dvc {path.name}", "ok", f"held; process {running[0]} runs")
    found = f"{path} is there, and no DVC runs here: each command will wait for it"
    return Finding(f"dvc {path.name}", "error", found, _EXPECTED, f"rm {path}")


def _check_rwlock(path: Path) -> Iterator[Finding]:
    if not path.exists():
        yield Finding("dvc rwlock", "ok", "no path is in use")
        return
    try:
        users = _users(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError):
        found = f"{path} is damaged: a process was killed as it wrote"
        yield Finding("dvc rwlock", "error", found, _EXPECTED, f"rm {path}")
        return
    written_at = path.stat().st_mtime
    dead = {pid: used for pid, used in users.items() if not _lives(pid, written_at)}
    if dead:
        (pid, used), *_ = dead.items()
        found = f"{used} is in use by process {pid}, which has ended"
        yield Finding("dvc rwlock", "warning", found, _EXPECTED, f"rm {path}")
    elif users:
        yield Finding("dvc rwlock", "ok", f"paths in use by process {', '.join(map(str, users))}, which runs")
    else:
        yield Finding("dvc rwlock", "ok", "no path is in use")


def _users(content: dict[str, Any]) -> dict[int, str]:
    """One path in use per process, by process id; a path has one writer or several readers."""
    users: dict[int, str] = {}
    for path, entry in [*content.get("write", {}).items(), *content.get("read", {}).items()]:
        for user in entry if isinstance(entry, list) else [entry]:
            users[int(user["pid"])] = path
    return users


def _lives(pid: int, written_at: float) -> bool:
    """Whether the process that wrote its id is running; a process that started later only has the same id."""
    import psutil

    try:
        started_at: float = psutil.Process(pid).create_time()
    except psutil.Error:
        return False
    return started_at <= written_at + 1


def _dvc_processes(root: Path) -> list[int]:
    import psutil

    found = []
    for process in psutil.process_iter(["pid", "cmdline", "cwd"]):
        words = process.info["cmdline"] or []
        is_dvc = any(Path(word).name == "dvc" for word in words[:3])
        if is_dvc and process.info["cwd"] and Path(process.info["cwd"]).is_relative_to(root):
            found.append(process.info["pid"])
    return found


def _number(text: str) -> int | None:
    return int(text) if text.strip().isdigit() else None
