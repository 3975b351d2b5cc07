"""MLflow's web interface on this project's store."""

import os
import sys
from pathlib import Path

from fusmae.errors import RegistryError
from fusmae.runs.mlflow_address import shown_uri, tracking_uri
from fusmae.runs.mlflow_store import connect, packages_folder


def show_mlflow(host: str, port: int) -> str:
    """Become MLflow's web server on a database; a tracking server has an interface of its own.

    Args:
        host: address to listen on.
        port: port to listen on.

    Returns:
        Where the interface of a tracking server is.

    Raises:
        RegistryError: the store does not answer, or MLflow's web server can't start.
    """
    connect()
    uri = tracking_uri()
    if not uri.startswith(("http://", "https://")):
        if "%" in packages_folder():
            raise RegistryError(
                "MLflow's web server does not start from an environment whose path holds %.",
                got=packages_folder(),
                expected="a path without %",
                hint=f"ln -sfn '{Path(packages_folder()).parent}' /tmp/packages && PYTHONPATH=/tmp/packages fusmae ui",
            )
        # Not on the command line: a database's address may hold a password.
        os.environ["MLFLOW_BACKEND_STORE_URI"] = uri
        os.execv(sys.executable, [sys.executable, "-m", "mlflow", "ui", "--host", host, "--port", str(port)])  # noqa: S606
    return f"MLflow's interface is at {shown_uri()}"
