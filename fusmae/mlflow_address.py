"""Where MLflow's store is, and what of its address may be shown."""

import os
import re
from pathlib import Path
from urllib.parse import unquote

STORE = Path("mlruns")
# scheme, user, password, rest
_SIGNED_ADDRESS = re.compile(r"^(https?://)([^:@/?#]*)(?::([^/?#]*))?@(.*)$")


def tracking_uri() -> str:
    """The server that MLFLOW_TRACKING_URI names, or a SQLite file in the project's folder.

    A web server's address comes without user and password: MLflow prints it at the end of each run.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{STORE.absolute() / 'mlflow.db'}"
    return _SIGNED_ADDRESS.sub(r"\1\4", uri)


def store_folder() -> Path:
    """Of the SQLite file; what belongs to it is beside it, wherever a stage runs."""
    return Path(tracking_uri().removeprefix("sqlite:///")).absolute().parent


def shown_uri() -> str:
    """The tracking server as errors may name it: without user and password."""
    return without_secrets(tracking_uri())


def without_secrets(text: str) -> str:
    """A text that may hold addresses, without the user and password in them."""
    # Up to the last @: a database's password may hold slashes and more of them.
    text = re.sub(r"://\S*@", "://…@", text)
    return re.sub(r"(?i)\b(password|token|secret|key)=[^&\s'\"]+", r"\1=…", text)


def sign_in() -> None:
    """Hand on user and password of the server's address by MLflow's own variables, which it shows nowhere."""
    signed = _SIGNED_ADDRESS.match(os.environ.get("MLFLOW_TRACKING_URI", ""))
    if signed:
        os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(signed[2])
        os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(signed[3] or "")


def is_local() -> bool:
    """Whether the store is a SQLite file."""
    return tracking_uri().startswith("sqlite")
