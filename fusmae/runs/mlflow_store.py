"""MLflow's store: opened or made, with a look at its runs and experiments."""

import json
from functools import cache
from pathlib import Path

from filelock import FileLock
from rich.console import Console

from fusmae.errors import RegistryError
from fusmae.runs.mlflow_address import shown_uri, sign_in, store_path, tracking_uri, without_secrets
from fusmae.runs.mlflow_artifacts import ARTIFACTS, outdated_addresses, update_addresses

MINIMUM_SERVER = "3.0"
"""Oldest server version that this project works with: models are logged by an interface that MLflow 2 lacks."""


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
