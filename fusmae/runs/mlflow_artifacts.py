"""Where a SQLite store's artifacts are: MLflow keeps absolute addresses, which become wrong when the folder moves."""

import shlex
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fusmae.runs.mlflow_address import local_path, sqlite_uri

if TYPE_CHECKING:
    from sqlalchemy import ColumnClause, Connection, TableClause

ARTIFACTS = "artifacts"
# Every column in which MLflow keeps an address of artifacts; the first holds the folder for an experiment's new runs.
_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


@dataclass(frozen=True)
class Outdated:
    """A folder that a store's addresses name, though the store is in another one.

    Attributes:
        address: address of that folder in MLflow's database, without a slash at its end.
        folder: the same folder as a path.
        store: folder in which the store is now.
        missing: one path in `folder` that `store` lacks; None where `store` has everything.
    """

    address: str
    folder: Path
    store: Path
    missing: Path | None

    @property
    def copy_command(self) -> str:
        """The command that copies what is missing and replaces nothing."""
        return f"cp -R -n {shlex.quote(str(self.folder))}/. {shlex.quote(str(self.store))}"


def outdated_addresses(database: Path) -> list[Outdated]:
    """Former folders of a store that was moved or copied, from the addresses in its database; changes nothing.

    The folder of an experiment whose artifacts are elsewhere on purpose (on a larger disk) is not among them. The
    store's folder is that of `database`, its SQLite file.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the file is not a database of MLflow.
    """
    with _open(database) as connection:
        return list(_outdated(connection, database.absolute()))


def update_addresses(database: Path) -> list[Outdated]:
    """Change the addresses of a moved or copied store to its present folder, if all artifacts are there too.

    Only one process at a time may call this for a database. Returned are the folders that the addresses named before.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the file is not a database of MLflow.
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


def _open(database: Path) -> AbstractContextManager["Connection"]:
    """A connection with one transaction."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    return create_engine(sqlite_uri(database), poolclass=NullPool).begin()


def _columns() -> list[tuple["TableClause", "ColumnClause[str]"]]:
    from sqlalchemy import String, column, table

    return [(table(name, item), item) for name, address in _ADDRESSES for item in [column(address, String)]]


def _outdated(connection: "Connection", database: Path) -> Iterator[Outdated]:
    from sqlalchemy import column, func, select, table

    store = database.parent
    experiments = table("experiments", column("experiment_id"), column("artifact_location"))
    # An experiment's artifacts are in a subfolder of the store's: `artifacts`, as here, or the experiment's number, as
    # MLflow names it.
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
        # Addresses of artifacts that were written: those of runs, models and versions, not of experiments.
        asked = (select(item).where(func.instr(item, f"{root}/") == 1) for _, item in _columns()[1:])
        addresses = (address for query in asked for address in connection.scalars(query))
        paths = [path for path in map(local_path, addresses) if path]
        here = [store / path.relative_to(before) for path in paths]
        was_store = before.name == store.name and (not before.exists() or (before / database.name).exists())
        if was_store or any(path.exists() for path in here):
            only_there = (path for path, own in zip(paths, here, strict=True) if path.exists() and not own.exists())
            yield Outdated(root, before, store, next(only_there, None))
