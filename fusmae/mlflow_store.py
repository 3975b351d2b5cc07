"""MLflow's store: that it is there, and what runs and experiments it has."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from fusmae.errors import RegistryError
from fusmae.mlflow_address import is_local, shown_uri, sign_in, store_folder, tracking_uri, without_secrets


def connect() -> None:
    """Point MLflow at its store and make the store where it is missing.

    Several processes that open a SQLite file which does not exist yet break it for good: a file lock lets one make it.

    Raises:
        RegistryError: the store does not answer.
    """
    import mlflow

    sign_in()
    mlflow.set_tracking_uri(tracking_uri())
    try:
        with _alone():
            mlflow.search_experiments(max_results=1)
    except Exception as error:
        raise RegistryError(
            f"MLflow's store at {shown_uri()} does not answer: {without_secrets(str(error))}",
            expected="a reachable server, or a database that this MLflow can read",
            hint="check MLFLOW_TRACKING_URI; unset, it is a SQLite file in mlruns/",
        ) from error


@contextmanager
def _alone() -> Iterator[None]:
    """Be the only process here that may make something in the store; a server sees to that by itself."""
    if not is_local():
        yield
        return
    store_folder().mkdir(parents=True, exist_ok=True)
    with FileLock(store_folder() / "create.lock"):
        yield


def find_run(run_file: Path) -> str | None:
    """The id in `run_file`, if the store has that run; outputs that came from a DVC cache may have none here."""
    if not run_file.exists():
        return None
    return known_run(json.loads(run_file.read_text(encoding="utf-8"))["run_id"])


def known_run(run_id: str) -> str | None:
    """The id, if the store has that run."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        return str(MlflowClient().get_run(run_id).info.run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def open_experiment(name: str) -> str:
    """The experiment's id; it is made where it is missing."""
    import mlflow

    with _alone():
        found = mlflow.get_experiment_by_name(name)
        if found:
            return str(found.experiment_id)
        # A server keeps artifacts where it was told to; beside SQLite they belong in the project's folder.
        return str(mlflow.create_experiment(name, (store_folder() / "artifacts").as_uri() if is_local() else None))
