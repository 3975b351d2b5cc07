"""Where a SQLite store's artifacts are: MLflow keeps absolute addresses, which outdate when the folder moves."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fusmae.runs.mlflow_address import local_path, sqlite_uri

if TYPE_CHECKING:
    from sqlalchemy import ColumnClause, Connection, TableClause

ARTIFACTS = "artifacts"
# Every column in which MLflow keeps an artifact's address; the first is where an experiment's new runs write.
_ADDRESSES = (
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

    The folder of an experiment whose artifacts were meant to be elsewhere (a larger disk) is none of them.

    Args:
        database: the SQLite file; its folder is the store's.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: it is no database of MLflow's.
    """
    with _open(database) as connection:
        return list(_outdated(connection, database.absolute()))


def update_addresses(database: Path) -> list[Outdated]:
    """Let the addresses of a moved or copied store name its present folder, where the artifacts came along.

    Args:
        database: the SQLite file; only one process at a time may do this.

    Returns:
        The folders that were named until now.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: it is no database of MLflow's.
    """
    from sqlalchemy import func, literal, update

    with _open(database) as connection:
        moved = [found for found in _outdated(connection, database.absolute()) if found.missing is None]
        for found in moved:
            for table, column in _columns():
                rest = func.substr(column, len(found.address) + 1)
                is_under = func.instr(column, f"{found.address}/") == 1
                changed = {column.name: literal(found.store.as_uri()).concat(rest)}
                connection.execute(update(table).where(is_under).values(changed))
        return moved


@contextmanager
def _open(database: Path) -> Iterator["Connection"]:
    """One transaction."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    with create_engine(sqlite_uri(database), poolclass=NullPool).begin() as connection:
        yield connection


def _columns() -> list[tuple["TableClause", "ColumnClause[str]"]]:
    from sqlalchemy import String, column, table

    columns = [(name, column(address, String)) for name, address in _ADDRESSES]
    return [(table(name, address), address) for name, address in columns]


def _outdated(connection: "Connection", database: Path) -> Iterator[Outdated]:
    from sqlalchemy import column, select, table

    store = database.parent
    experiments = table("experiments", column("experiment_id"), column("artifact_location"))
    # An experiment's folder lies in the store's: as it is named here, or as MLflow names it.
    roots = {
        root
        for number, address in connection.execute(select(experiments))
        for root, _, name in [(address or "").rpartition("/")]
        if name in {ARTIFACTS, str(number)}
    }
    for root in sorted(roots):
        before = local_path(root)
        if before is None or before == store or (before.exists() and before.samefile(store)):
            continue
        paths = [path for address in _under(connection, root) if (path := local_path(address))]
        here = [store / path.relative_to(before) for path in paths]
        was_store = before.name == store.name and (not before.exists() or (before / database.name).exists())
        if was_store or any(path.exists() for path in here):
            only_there = (path for path, own in zip(paths, here, strict=True) if path.exists() and not own.exists())
            yield Outdated(root, before, store, next(only_there, None))


def _under(connection: "Connection", root: str) -> Iterator[str]:
    """Addresses of what was written: of runs, models and versions, not of experiments."""
    from sqlalchemy import func, select

    for _, column in _columns()[1:]:
        yield from connection.scalars(select(column).where(func.instr(column, f"{root}/") == 1))
