"""Where a SQLite store's artifacts are: MLflow keeps absolute addresses, which outdate when the folder moves."""

import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from fusmae.mlflow_address import DATABASE, local_path

ARTIFACTS = "artifacts"
# Every column in which MLflow keeps an artifact's address; the first is where an experiment's new runs write.
_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


@dataclass(frozen=True)
class Outdated:
    """A folder that the addresses of a store name, and that is not the store's.

    Attributes:
        address: the folder as MLflow has it, without a slash at its end.
        folder: the same as a path.
        store: folder of the store.
        missing: one path in `folder` that the store's own lacks; None where everything is here as well.
    """

    address: str
    folder: Path
    store: Path
    missing: Path | None

    @property
    def copy_command(self) -> str:
        """The command that brings along what is missing, and replaces nothing."""
        return f"cp -R -n {shlex.quote(str(self.folder))}/. {shlex.quote(str(self.store))}"


def outdated_addresses(database: Path) -> list[Outdated]:
    """Folders of a store that was moved or copied from there to here, by the addresses in it; changes nothing.

    Experiments whose artifacts were meant to be elsewhere (a larger disk) are none.

    Args:
        database: the SQLite file; its folder is the store's.

    Raises:
        sqlite3.Error: it is no database of MLflow's.
    """
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
        return list(_outdated(connection, database.absolute().parent))


def update_addresses(database: Path) -> list[Outdated]:
    """Let the addresses of a moved or copied store name its present folder, where the artifacts came along.

    Args:
        database: the SQLite file; only one process at a time may do this.

    Returns:
        Folders that the addresses named before; they name others no more.

    Raises:
        sqlite3.Error: it is no database of MLflow's.
    """
    folder = database.absolute().parent
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        moved = [found for found in _outdated(connection, folder) if found.missing is None]
        for found in moved:
            for table, column in _COLUMNS:
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE instr({column}, ?) = 1",  # noqa: S608
                    (folder.as_uri(), len(found.address) + 1, f"{found.address}/"),
                )
    return moved


def _outdated(connection: sqlite3.Connection, folder: Path) -> Iterator[Outdated]:
    named = connection.execute("SELECT experiment_id, artifact_location FROM experiments").fetchall()
    # An experiment's folder lies in the store's: as we name it, or as MLflow does.
    roots = {
        root
        for number, address in named
        for root, _, name in [(address or "").rpartition("/")]
        if name in {ARTIFACTS, str(number)}
    }
    for root in sorted(roots):
        before = local_path(root)
        if before is None or before == folder or (before.exists() and before.samefile(folder)):
            continue
        paths = [path for address in _under(connection, root) if (path := local_path(address))]
        here = [folder / path.relative_to(before) for path in paths]
        was_store = before.name == folder.name and (not before.exists() or (before / DATABASE).exists())
        if was_store or any(path.exists() for path in here):
            only_there = (path for path, own in zip(paths, here, strict=True) if path.exists() and not own.exists())
            yield Outdated(root, before, folder, next(only_there, None))


def _under(connection: sqlite3.Connection, root: str) -> Iterator[str]:
    """Addresses of what was written: of runs, models and versions, not of experiments."""
    for table, column in _COLUMNS[1:]:
        for (address,) in connection.execute(
            f"SELECT {column} FROM {table} WHERE instr({column}, ?) = 1",  # noqa: S608
            (f"{root}/",),
        ):
            yield address
