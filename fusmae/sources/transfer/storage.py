"""The disk under a transfer: its errors in words, its writes settled."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fusmae.files import storage_error


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Turn the disk's refusals into an error that says what to do; what was transferred so far is kept.

    Raises:
        StorageError: the disk is full or refuses.
    """
    try:
        yield
    except OSError as error:
        raise storage_error(path, error, kept="what was transferred before is kept") from error


def settle() -> None:
    """Wait until what was written is on the disk, so that what it was made from may go."""
    if hasattr(os, "sync"):
        os.sync()


def remove(path: Path) -> None:
    """Remove a file or a folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
