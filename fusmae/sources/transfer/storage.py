"""Disk access of transfers: readable errors, and writes that are surely on the disk."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fusmae.files import storage_error


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Convert errors of the disk to an error with advice to the user; the bytes transferred so far are kept.

    Raises:
        StorageError: the disk is full or refuses to write.
    """
    try:
        yield
    except OSError as error:
        raise storage_error(path, error, kept="what was transferred before is kept") from error


def settle() -> None:
    """Wait until written data are on the disk, so that the bytes they were made from may be removed."""
    if hasattr(os, "sync"):
        os.sync()


def remove(path: Path) -> None:
    """Remove a file or a folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
