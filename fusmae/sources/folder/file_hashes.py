"""Hashes of many files that a user may change at any time: only files with another size or time are read again."""

import hashlib
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fusmae.files import file_sha256, write_json
from fusmae.runs.resume_folder import resume_root

# A younger file's hash isn't stored: the file may be rewritten without a change of its time.
_SETTLED_NS = 2_000_000_000


def file_hashes(folder: Path, paths: Sequence[Path]) -> list[str]:
    """Return the SHA-256 of all the files of a folder, in their order.

    Hashes are stored in the project's hidden folder. A file is read again if its size, its mtime, its ctime or its
    inode has changed.
    """
    key = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    notes = resume_root() / f"file-hashes-{key}.json"
    known = json.loads(notes.read_text(encoding="utf-8")) if notes.is_file() else {}
    states = {path.relative_to(folder).as_posix(): _state(path) for path in paths}
    changed = [name for name, state in states.items() if name not in known or known[name]["state"] != state]
    before = time.time_ns()
    with ThreadPoolExecutor() as pool:  # hashing releases the interpreter's lock
        read = dict(zip(changed, pool.map(lambda name: file_sha256(folder / name), changed), strict=True))
    found = {name: read[name] if name in read else known[name]["sha256"] for name in states}
    kept = {
        name: {"state": state, "sha256": found[name]}
        for name, state in states.items()
        if name not in read or before - max(state[1:3]) > _SETTLED_NS
    }
    if kept != known:
        write_json(notes, kept)
    return list(found.values())


def _state(path: Path) -> list[int]:
    """Return size, mtime and ctime in ns, and inode: they reveal a change without reading."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
