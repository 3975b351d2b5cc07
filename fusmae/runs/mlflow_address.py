"""Where MLflow's store is, and which part of its address may be shown."""

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from fusmae.errors import RegistryError
from fusmae.runs.git import original_folder

STORE = Path("mlruns")
DATABASE = "mlflow.db"
# scheme, user, password, rest
_SIGNED_ADDRESS = re.compile(r"^(https?://)([^:@/?#]*)(?::([^/?#]*))?@(.*)$")


def tracking_uri() -> str:
    """The server that MLFLOW_TRACKING_URI names, or a SQLite file in the project's folder.

    A web server's address is returned without user and password: MLflow prints it at the end of each run.

    Raises:
        RegistryError: the file's path has no valid address, or SQLAlchemy is not installed.
    """
    path = store_path()
    return sqlite_uri(path) if path else _SIGNED_ADDRESS.sub(r"\1\4", _given())


def store_path() -> Path | None:
    """The SQLite file, the same for stages in temporary checkouts; None for a server or a database of another kind.

    Raises:
        RegistryError: SQLAlchemy, which parses a SQLite address, is not installed.
    """
    given = _given()
    if not given:
        return original_folder() / STORE / DATABASE
    if not given.startswith("sqlite"):
        return None
    # A relative path counts from the original checkout: a stage may run in a temporary one.
    name = _sqlalchemy_url().make_url(given).database
    return original_folder() / name if name and name != ":memory:" and not name.startswith("file:") else None


def sqlite_uri(path: Path) -> str:
    """MLflow's address of a SQLite file; the path may have any characters.

    Raises:
        RegistryError: the path's bytes are not text, or SQLAlchemy is not installed.
    """
    # With the driver's name: for a plain `sqlite:///…` MLflow makes a folder named like the path with its % escapes.
    url = _sqlalchemy_url().URL.create("sqlite+pysqlite", database=str(path.absolute()))
    try:
        return str(url.render_as_string(hide_password=False))
    except UnicodeEncodeError as error:
        raise RegistryError(
            "MLflow's store can't be in this folder: its path has bytes that are no text.",
            got=ascii(str(path)),
            expected="a path in UTF-8",
            hint="rename the folder",
        ) from error


def _sqlalchemy_url() -> Any:
    try:
        from sqlalchemy.engine import url
    except ImportError as error:
        raise RegistryError(
            "MLflow's store is a SQLite file, and SQLAlchemy, which reads those, is not installed.",
            got="the packages of requirements-serve.lock, which speak to MLflow's server only",
            expected="a server's address in MLFLOW_TRACKING_URI",
            hint="export MLFLOW_TRACKING_URI=http://…, or name a file: --model models/export/model.onnx",
        ) from error
    return url


def _given() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI", "")


def local_path(address: str) -> Path | None:
    """The folder that an artifact address names; None where it is not on this machine."""
    parts = urlsplit(address)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    return None if parts.scheme else Path(address)


def shown_uri() -> str:
    """The store's name for messages: a file's path, or an address without user and password."""
    path = store_path()
    return str(path) if path else without_secrets(tracking_uri())


def without_secrets(text: str) -> str:
    """A text with user and password removed from the addresses in it."""
    # Up to the last @: a database's password may contain slashes and further @ signs.
    text = re.sub(r"://\S*@", "://…@", text)
    return re.sub(r"(?i)\b(password|token|secret|key)=[^&\s'\"]+", r"\1=…", text)


def sign_in() -> None:
    """Pass user and password of the server's address to MLflow in its environment variables, which it never shows."""
    if signed := _SIGNED_ADDRESS.match(_given()):
        os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(signed[2])
        os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(signed[3] or "")
