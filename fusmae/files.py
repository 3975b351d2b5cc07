"""Writing files whole or not at all."""

import errno
import hashlib
import json
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from typing import Any

from fusmae.errors import StorageError


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write a file or a folder at; rename it to `path` when the block ends.

    On any failure the temporary file is removed and what stood at `path` stays. A kill while an old folder is being
    replaced leaves the whole old or the whole new one; the next write removes what the kill left beside it. Where
    `path` is a link to a folder, that folder is replaced and the link stays.

    Raises:
        StorageError: the disk is full or the file cannot be written.
    """
    if path.is_symlink() and path.is_dir():
        path = path.resolve()
    partial, replaced = (path.with_name(f".{path.name}.{role}") for role in ("partial", "replaced"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove(partial)
        _settle(path, replaced)
        yield partial
        if partial.is_dir() and path.is_dir():
            path.replace(replaced)
        partial.replace(path)
    except OSError as error:
        if not _is_about_writing(error, path):
            raise
        raise storage_error(path, error) from error
    finally:
        with suppress(OSError):  # the error that led here is more useful
            remove(partial)
            _settle(path, replaced)


def write_json(path: Path, value: Any) -> None:
    """Write a value as sorted, indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8, whole or not at all."""
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _settle(path: Path, replaced: Path) -> None:
    """Put a folder that was moved aside back if its replacement is missing; otherwise remove it."""
    if replaced.exists() and not path.exists():
        replaced.replace(path)
    remove(replaced)


def _is_about_writing(error: OSError, path: Path) -> bool:
    # An error from reading some other file inside the block is not about writing and passes on unchanged.
    if error.filename is None:
        return True
    named = Path(error.filename)
    return named.is_relative_to(path.parent) or path.is_relative_to(named)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def storage_error(path: Path, error: OSError, kept: str = "what stood there before is kept") -> StorageError:
    """Turn the operating system's error from writing `path` into a readable one; `kept` states what was not lost."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        free_mb = shutil.disk_usage(folder).free // 2**20
        return StorageError(
            f"The disk is full: {path} could not be written; {kept}.",
            got=f"{free_mb} MB free in {folder}",
            hint="make room, then run the same command again",
        )
    return StorageError(f"{path} could not be written: {error}", hint="check the folder's permissions")


def visible_files(folder: Path, endings: Collection[str]) -> list[Path]:
    """Files under a folder, at any depth, whose names end in one of `endings` (like `.tif`, lower case), by path.

    Hidden files are left out: editors and file managers make them beside the files that people put there.
    """
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in endings and not is_hidden(path.relative_to(folder)) and path.is_file()
    )


def is_hidden(path: PurePath) -> bool:
    """Whether a program made this path for its own use: `.ipynb_checkpoints/`, `._B02.tif` (macOS), `~$x` (Office)."""
    return any(part.startswith((".", "~$")) or part == "__MACOSX" for part in path.parts)
