"""Values of an LMDB folder, read without writing to the folder."""

import threading
from pathlib import Path

from fusmae.errors import SourceError

# LMDB forbids opening one folder twice in a process, and several threads may read pairs at the same time.
_OPENING = threading.Lock()


def read_values(folder: Path, keys: list[str] | None = None) -> dict[str, bytes]:
    """Copy values from `folder/data.mdb`; opening it takes about 0.2 ms, so the database is not kept open.

    Args:
        folder: folder of the LMDB database; nothing is written to it, not even a lock file.
        keys: keys of the values to read; None for all.

    Returns:
        Values by key; keys that the database lacks are left out.

    Raises:
        SourceError: the database is absent, truncated or damaged.
    """
    import lmdb

    file = folder / "data.mdb"
    if not file.exists():
        raise SourceError(f"There is no database {file}.", hint="dvc repro -f -s fetch")
    try:
        with _OPENING, lmdb.open(str(folder), readonly=True, lock=False, create=False) as database:
            _check_length(file, (database.info()["last_pgno"] + 1) * database.stat()["psize"])
            with database.begin() as transaction:
                if keys is None:
                    return {key.decode(): bytes(value) for key, value in transaction.cursor()}
                found = {key: transaction.get(key.encode()) for key in keys}
                return {key: bytes(value) for key, value in found.items() if value is not None}
    except (lmdb.Error, UnicodeDecodeError) as error:
        raise SourceError(f"The database {file} is damaged: {error}", hint="dvc repro -f -s fetch") from error


def _check_length(file: Path, expected_bytes: int) -> None:
    # LMDB maps the file into memory: reading past the end of a truncated file would kill the process (SIGBUS).
    if file.stat().st_size < expected_bytes:
        raise SourceError(
            f"The database {file} is cut short.",
            got=f"{file.stat().st_size} bytes",
            expected=f"at least {expected_bytes} bytes",
            hint="dvc repro -f -s fetch",
        )
