"""Hashes of many files that a user may change at any time: only files with another size or time are read again."""

import os
import sqlite3
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from fusmae.files import file_sha256
from fusmae.runs.resume_folder import resume_root

_SETTLED_NS = 2_000_000_000
"""Age in ns below which a file's hash isn't stored: a file that young may be rewritten without a change of its time."""


def file_hashes(folder: Path, paths: Sequence[Path]) -> list[str]:
    """Return the SHA-256 of files, in their order.

    Hashes are stored in the project's hidden folder. A file is read again if its size, its mtime, its ctime or its
    inode has changed.

    Args:
        folder: folder that holds all the files; stored hashes of files that it no longer holds are deleted.
        paths: paths of the files, in `folder`.
    """
    top = folder.resolve()
    names = [path.relative_to(folder).as_posix() for path in paths]
    states = [_state(path) for path in paths]
    notes = resume_root() / "file-hashes.sqlite"
    notes.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(notes, timeout=600)) as database:
        database.execute(
            "CREATE TABLE IF NOT EXISTS files (folder TEXT, name TEXT, state TEXT, sha256 TEXT, "
            "PRIMARY KEY (folder, name)) WITHOUT ROWID"
        )
        rows = database.execute("SELECT name, state, sha256 FROM files WHERE folder = ?", (str(top),))
        known = {name: (state, sha256) for name, state, sha256 in rows}
        changed = [place for place, name in enumerate(names) if known.get(name, ("",))[0] != states[place]]
        before = time.time_ns()
        with ThreadPoolExecutor() as pool:  # hashing releases the interpreter's lock
            read = dict(zip(changed, pool.map(lambda place: file_sha256(paths[place]), changed), strict=True))
        found = [read[place] if place in read else known[name][1] for place, name in enumerate(names)]
        kept = [place for place in changed if before - int(states[place].split()[1]) > _SETTLED_NS]
        with database:
            gone = known.keys() - set(names)
            database.executemany("DELETE FROM files WHERE folder = ? AND name = ?", ((str(top), name) for name in gone))
            database.executemany(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)",
                ((str(top), names[place], states[place], found[place]) for place in kept),
            )
    return found


def _state(path: Path) -> str:
    """Return size, the later of mtime and ctime in ns, both times and inode: they reveal a change without reading."""
    found: os.stat_result = path.stat()
    latest = max(found.st_mtime_ns, found.st_ctime_ns)
    return f"{found.st_size} {latest} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"
