"""Where training stages keep what they resume from: one folder per run, used by one process at a time."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from fusmae.errors import TrainingError
from fusmae.runs.git import is_temporary, original_folder

RESUME_ROOT = "FUSMAE_RESUME_ROOT"
"""Environment variable: path of a folder that several checkouts share, so that a run can continue in another one."""
_KEPT_DAYS = 30


def resume_path(stage: str, key: str) -> Path:
    """Path of a run's folder; see `resume_folder`."""
    return resume_root() / f"{stage}-{key}"


def resume_root() -> Path:
    """The project's hidden folder, or the one that several checkouts of a host share."""
    if is_temporary() and not os.environ.get(RESUME_ROOT):
        return original_folder() / ".fusmae" / "resume"  # flows keep their folders there too
    return Path(os.environ.get(RESUME_ROOT) or ".fusmae")


@contextmanager
def resume_folder(stage: str, key: str) -> Iterator[Path]:
    """The folder of one run, for this process alone; removed when the run is done, kept if it is interrupted or fails.

    `key` is the hash of everything that the run's result depends on, 16 characters.

    Raises:
        TrainingError: another process is working on the same run.
    """
    folder = resume_path(stage, key)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = _lock(folder).acquire(timeout=1)
    except Timeout as error:
        raise TrainingError(
            f"Another process works on the same run: it holds {error.lock_file}.",
            expected="one process per run",
            hint="wait for it; then `dvc repro` takes its result from the cache",
        ) from error
    with lock:
        yield folder
        _remove(folder)
    # Interrupted runs with other parameters have left theirs; another checkout may use a recent one.
    is_shared = os.environ.get(RESUME_ROOT) or is_temporary()
    for other in resume_root().glob(f"{stage}-{'?' * 16}"):
        if is_shared and time.time() - other.stat().st_mtime < _KEPT_DAYS * 86_400:
            continue
        with suppress(Timeout), _lock(other).acquire(timeout=0):  # a process may still use it
            _remove(other)


def _lock(folder: Path) -> FileLock:
    return FileLock(folder.with_name(f".{folder.name}.lock"))


def _remove(folder: Path) -> None:
    shutil.rmtree(folder)
    Path(_lock(folder).lock_file).unlink()
