"""MLflow's store: opened or made, its addresses updated after a move, and a look at its runs and experiments."""

import json
import shlex
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock
from rich.console import Console

from fusmae.errors import RegistryError
from fusmae.runs.mlflow_address import (
    local_path,
    shown_uri,
    sign_in,
    sqlite_uri,
    store_path,
    tracking_uri,
    without_secrets,
)

if TYPE_CHECKING:
    from sqlalchemy import ColumnClause, Connection, TableClause

MINIMUM_SERVER = "3.0"
"""Oldest server version that this project works with: models are logged by an interface that MLflow 2 lacks."""
ARTIFACTS = "artifacts"
# Columns in which MLflow keeps an absolute address of artifacts; the first holds that of an experiment's new runs.
_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def connect() -> None:
    """Point MLflow at its store, make the store where it is missing, and update the addresses of a moved one.

    Raises:
        RegistryError: the store does not answer, or its server is too old.
    """
    import mlflow

    sign_in()
    uri, path = tracking_uri(), store_path()
    mlflow.set_tracking_uri(uri)
    try:
        if path is None:
            require_version(_server_version(uri))
            mlflow.search_experiments(max_results=1)
        else:
            with _alone(path):
                _open_file(uri, path)
    except RegistryError:
        raise
    except Exception as error:
        raise RegistryError(
            f"MLflow's store at {shown_uri()} does not answer: {without_secrets(str(error))}",
            expected="a reachable server, or a database that this MLflow can read",
            hint="check MLFLOW_TRACKING_URI; unset, it is a SQLite file in mlruns/",
        ) from error


def packages_folder() -> str:
    """Folder of the imported MLflow package."""
    import mlflow

    return str(Path(mlflow.__file__).parent)


def _open_file(uri: str, path: Path) -> None:
    import mlflow

    if "%" in (packages := packages_folder()):
        from mlflow.store.db import utils

        # MLflow passes the folder of its migrations to alembic without escaping; there, % begins a variable's name.
        utils._get_package_dir = lambda: packages.replace("%", "%%")
    if not path.exists():
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        # If `search_experiments` made the store, its first experiment would keep artifacts in the working folder, and
        # some characters in that folder's name would cause an SQL error.
        SqlAlchemyStore(uri, path.parent.as_uri())  # type: ignore[no-untyped-call]
    mlflow.search_experiments(max_results=1)
    for folder in sorted({moved.folder for moved in update_addresses(path)}):
        text = f"MLflow's artifacts were in {folder}: its database names {path.parent} from now on."
        Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(text)


def require_version(found: str) -> None:
    """Refuse an older server (`found`; "" if not stated): otherwise the error would come only after hours of training.

    Raises:
        RegistryError: the server is older than `MINIMUM_SERVER`.
    """
    from importlib.metadata import version

    from packaging.version import InvalidVersion, Version

    try:
        is_older = bool(found) and Version(found) < Version(MINIMUM_SERVER)
    except InvalidVersion:
        return
    if is_older:
        here = version("mlflow-skinny")
        raise RegistryError(
            f"MLflow's server at {shown_uri()} is too old for the MLflow here, which is {here}.",
            got=found,
            expected=f"{MINIMUM_SERVER} or later",
            hint=f"on the server, after a backup of its database: pip install mlflow=={here}, "
            "mlflow db upgrade <its database's address>, and start it again",
        )


@cache
def _server_version(uri: str) -> str:
    """The version that a server states, requested once per process; "" where it states none or is a database."""
    if not uri.startswith(("http://", "https://")):
        return ""
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    credentials = get_default_host_creds(uri)  # type: ignore[no-untyped-call]
    answer = http_request(credentials, "/version", "GET", raise_on_status=False)  # type: ignore[no-untyped-call]
    return answer.text.strip() if answer.status_code == 200 else ""


def _alone(path: Path) -> FileLock:
    """The lock of those who make something in a SQLite store: several at once damage a new file for good."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path.parent / "create.lock")


def find_run(run_file: Path) -> str | None:
    """The run id in `run_file` if the store has that run, else None: outputs from a DVC cache may have no run here."""
    return known_run(json.loads(run_file.read_text(encoding="utf-8"))["run_id"]) if run_file.exists() else None


def known_run(run_id: str) -> str | None:
    """The run's id if the store has that run, else None."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        return str(MlflowClient().get_run(run_id).info.run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def open_experiment(name: str) -> str:
    """The experiment's id; a missing experiment is made.

    Raises:
        RegistryError: this store is a copy, and artifacts would be written into the folder of the original.
    """
    import mlflow

    path = store_path()
    if path is None:
        # A server decides by its own settings where artifacts are kept.
        found = mlflow.get_experiment_by_name(name)
        return str(found.experiment_id if found else mlflow.create_experiment(name))
    with _alone(path):
        found = mlflow.get_experiment_by_name(name)
        if found is None:
            return str(mlflow.create_experiment(name, (path.parent / ARTIFACTS).as_uri()))
        for other in outdated_addresses(path):
            if found.artifact_location.startswith(f"{other.address}/"):
                raise RegistryError(
                    f"MLflow's database {path} is a copy, and not all of its artifacts came along: "
                    f"a run would write into the other store's.",
                    got=f"{other.missing}, which {path.parent} lacks",
                    expected=f"the artifacts that the database names, in {path.parent}",
                    hint=other.copy_command,
                )
        return str(found.experiment_id)


@dataclass(frozen=True)
class Outdated:
    """A folder that a store's addresses name, though the store is in another one."""

    address: str  # address of that folder in MLflow's database, without a slash at its end
    folder: Path  # the same folder as a path
    store: Path  # folder in which the store is now
    missing: Path | None  # one path in `folder` that `store` lacks; None where `store` has everything

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
