"""Files that the user placed in the downloads folder: used after a check, never changed or removed."""

import hashlib
import json
from pathlib import Path

from fusmae.errors import SourceError
from fusmae.files import write_json
from fusmae.sources.transfer.progress import progress
from fusmae.sources.transfer.remote import RemoteFile
from fusmae.sources.transfer.server import CHUNK_BYTES


def has_whole(file: RemoteFile, path: Path) -> bool:
    """Return whether the file is at `path`; its MD5 is computed only once, because that takes minutes for 50 GB.

    Raises:
        SourceError: the file at `path` has another MD5.
    """
    if not path.is_file():
        return False
    receipt = path.with_name(f"{path.name}.checked.json")
    stat = path.stat()
    seen = {"md5": file.md5.lower(), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    if _stored(receipt) != seen:
        check(file, path)
        write_json(receipt, seen)
    return True


def check(file: RemoteFile, path: Path) -> None:
    """Compare a file's MD5 with the expected one.

    Raises:
        SourceError: the two differ.
    """
    found = _md5(file, path)
    if found != file.md5.lower():
        raise SourceError(
            f"{path} is not {file.name} as its data set names it: its MD5 is another.",
            got=f"{found} ({path.stat().st_size} bytes)",
            expected=file.md5,
            hint="remove this file or replace it with the right one, then `dvc repro -f -s fetch`",
        )


def _md5(file: RemoteFile, path: Path) -> str:
    digest, done, size = hashlib.md5(usedforsecurity=False), 0, path.stat().st_size
    with progress(f"checking {file.name}") as show, path.open("rb") as content:
        while chunk := content.read(CHUNK_BYTES):
            digest.update(chunk)
            done += len(chunk)
            show(done, size)
    return digest.hexdigest()


def _stored(receipt: Path) -> object:
    try:
        return json.loads(receipt.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
