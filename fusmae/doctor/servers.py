"""Whether MLflow's store and Prefect's server answer, and have what the installed versions need."""

import os
import re
import shlex
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from fusmae.doctor.finding import Finding, Status, described
from fusmae.doctor.repository import nearest
from fusmae.doctor.versions import package_files, reinstall
from fusmae.errors import RegistryError
from fusmae.runs.mlflow_address import sqlite_uri, store_path, tracking_uri
from fusmae.runs.mlflow_store import ARTIFACTS, MINIMUM_SERVER, outdated_addresses, require_version

if TYPE_CHECKING:
    import requests

_CONNECT_S, _ANSWER_S = 3.0, 5.0
_REFUSED = {401, 403}
"""Status codes of a server that refuses the credentials, or whose user lacks the permission."""


class NoAnswerError(Exception):
    """No server listens, its name is unknown, or it takes too long; the text states which."""


def _get(address: str, user: tuple[str, str] | None, token: str, path: str) -> "requests.Response":
    """Request a path below a server's address; user and password in the address replace those given.

    Raises:
        NoAnswerError: there is no answer.
    """
    import requests

    split, headers = urlsplit(address), {"Authorization": f"Bearer {token}"} if token else {}
    if split.username is not None:
        user = (unquote(split.username), unquote(split.password or ""))
    try:
        return requests.get(address.rstrip("/") + path, headers=headers, auth=user, timeout=(_CONNECT_S, _ANSWER_S))
    except requests.RequestException as error:
        # The system's message at the end of a chain of exceptions, such as "Connection refused".
        named = re.search(r"\[Errno -?\d+\] ([^'\")(]+)", str(error))
        reason = named[1].strip() if named else type(error).__name__
        raise NoAnswerError(f"no answer within {_ANSWER_S:g} s" if "timed out" in str(error) else reason) from error


def _json(answer: "requests.Response") -> Any:
    """The body parsed as JSON; None where it is not JSON, as from another program at this address."""
    try:
        return answer.json()
    except ValueError:
        return None


def _version(program: str, there: str, fault: Status = "warning", expected: str = "the same on both sides") -> Finding:
    here = metadata.version(program)
    if there == here:
        return Finding(f"{program} version", "ok", f"{here} on both sides")
    mend = f"pip install {program}=={here}   # on the server"
    return Finding(f"{program} version", fault, f"{there} there, {here} here", expected, mend)


_UPDATE = "python -c 'from fusmae.runs.mlflow_store import connect; connect()'"
_UNSET = "unset MLFLOW_TRACKING_URI   # then it is SQLite in mlruns/"


def check_local_store() -> Iterator[Finding]:
    """Check the store in this folder: database, schema, artifacts; no findings if it is elsewhere. Makes no store."""
    uri, path = tracking_uri(), store_path()
    if path:
        yield _check_sqlite(path)
        yield from _check_artifacts(path)
    elif uri.startswith("file:") or "://" not in uri:
        found = f"{uri} is a folder of files, which MLflow does not take since 3.13"
        yield Finding("mlflow store", "error", found, "a server's address or a database", _UNSET)


def check_remote_store() -> Iterator[Finding]:
    """Check the store on a server or in a server's database; no findings where it is in this folder."""
    uri = tracking_uri()
    if uri.startswith(("http://", "https://")):
        yield from _check_server(uri)
    elif "://" in uri and not uri.startswith(("sqlite", "file:")):
        yield _check_database(uri)


def _check_sqlite(path: Path) -> Finding:
    if not path.exists():
        return Finding("mlflow store", "ok", f"{path} is not there yet: the first run makes it")
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=2)) as connection:
            found = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.Error as error:
        found, reason = [], f"{path} is no MLflow database: {error}"
    else:
        reason = f"{path} names no schema: making it was interrupted"
    shown = shlex.quote(os.path.relpath(path))
    if not found:
        return Finding("mlflow store", "error", reason, "a database that MLflow made", f"mv {shown} {shown}.broken")
    backup = f"cp {shown} {shown}.before"
    return _schema_finding(str(path), found[0][0], f"{backup} && mlflow db upgrade {shlex.quote(sqlite_uri(path))}")


def _check_database(uri: str) -> Finding:
    import sqlalchemy

    try:
        engine = sqlalchemy.create_engine(uri)
        with engine.connect() as connection:
            found = connection.execute(sqlalchemy.text("SELECT version_num FROM alembic_version")).scalar()
    except ImportError as error:
        expected = "a driver that is installed, named in the address"
        mend = "export MLFLOW_TRACKING_URI=postgresql+psycopg2://…"
        return Finding("mlflow store", "error", f"{uri}: {described(error)}", expected, mend)
    except sqlalchemy.exc.SQLAlchemyError as error:
        return Finding("mlflow store", "error", f"{uri}: {described(error)}", "a database that answers", _UNSET)
    # The address may contain a password, so the command names the variable instead.
    return _schema_finding(uri, str(found), 'mlflow db upgrade "$MLFLOW_TRACKING_URI"   # after a backup')


def _schema_finding(where: str, got: str, upgrade: str) -> Finding:
    known = _revisions()
    head = next((name for name in known if name not in known.values()), "")
    if not head:
        return Finding("mlflow store", "skipped", f"{where} answers; this MLflow brings no database to compare with")
    if got == head:
        return Finding("mlflow store", "ok", f"{where}, schema {got}")
    if got in known:
        return Finding("mlflow store", "error", f"{where} has the older schema {got}", f"schema {head}", upgrade)
    found = f"{where} has schema {got}, which this MLflow does not know: a newer one made it"
    return Finding("mlflow store", "error", found, f"schema {head}", reinstall("mlflow"))


def _revisions() -> dict[str, str]:
    """The parent of each schema revision, read from MLflow's scripts as text; importing them would take seconds."""
    scripts = package_files("mlflow", "store/db_migrations/versions/*.py")
    texts = [path.read_text(encoding="utf-8") for path in scripts]
    named = [dict(re.findall(r"^((?:down_)?revision) = [\"'](\w+)", text, re.MULTILINE)) for text in texts]
    return {names["revision"]: names.get("down_revision", "") for names in named if "revision" in names}


def _check_artifacts(database: Path) -> Iterator[Finding]:
    folder = nearest(database.parent / ARTIFACTS)
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        mend = f"ls -ld {shlex.quote(str(folder))}; df {shlex.quote(str(folder))}"
        yield Finding("mlflow artifacts", "error", described(error), f"{folder} can be written to", mend)
        return
    from sqlalchemy.exc import SQLAlchemyError

    try:
        outdated = outdated_addresses(database) if database.exists() else []
    except SQLAlchemyError:
        return  # a finding about the database exists already
    if not outdated:
        yield Finding("mlflow artifacts", "ok", f"{folder}, writable")
    for other in outdated:
        found, expected = f"the database names artifacts in {other.folder}", f"artifacts in {other.store}"
        if other.missing is None:
            found += ": it was moved or copied from there"
            yield Finding("mlflow artifacts", "warning", found, expected, _UPDATE)
        else:
            found += f", and {other.missing} did not come along"
            yield Finding("mlflow artifacts", "error", found, expected, f"{other.copy_command}; {_UPDATE}")


def _check_server(url: str) -> Iterator[Finding]:
    name, password = os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
    # The original address: `url` leaves out user and password.
    address, token = os.environ["MLFLOW_TRACKING_URI"], os.environ.get("MLFLOW_TRACKING_TOKEN", "")
    get = partial(_get, address, (name, password) if name else None, token)
    start = "mlflow server --backend-store-uri sqlite:///mlruns/mlflow.db   # on the server, or correct the address"
    try:
        health, version = get("/health"), get("/version")
        store = get("/api/2.0/mlflow/experiments/search?max_results=1")
    except NoAnswerError as error:
        expected = "a server that answers, or MLFLOW_TRACKING_URI unset"
        yield Finding("mlflow store", "error", f"{url} does not answer: {error}", expected, start)
        return
    if store.status_code in _REFUSED:
        found, expected = f"{url} does not accept these credentials", "a user that it knows"
        mend = "export MLFLOW_TRACKING_USERNAME=… MLFLOW_TRACKING_PASSWORD=…"
        yield Finding("mlflow store", "error", found, expected, mend)
    elif health.status_code != 200 or store.status_code != 200 or not isinstance(_json(store), dict):
        found = f"{url} answers {health.status_code} to /health and {store.status_code} to a search"
        yield Finding("mlflow store", "error", found, "an MLflow server whose database answers", start)
    else:
        yield Finding("mlflow store", "ok", f"{url} answers")
        yield _mlflow_version(version)


def _mlflow_version(answer: "requests.Response") -> Finding:
    if answer.status_code != 200:
        return Finding("mlflow version", "skipped", f"the server does not tell it ({answer.status_code})")
    there = answer.text.strip()
    try:
        require_version(there)
    except RegistryError:
        return _version("mlflow", there, "error", f"{MINIMUM_SERVER} or later on the server")
    return _version("mlflow", there)


_ADDRESS = "export PREFECT_API_URL=http://…:4200/api"
_START_PREFECT = f"prefect server start   # there, or correct the address: {_ADDRESS}"


def check_prefect(pools: tuple[str, ...]) -> Iterator[Finding]:
    """Check server, version and the work pools that should have a worker."""
    from prefect.settings import Settings

    api = Settings().api  # as a flow that is started here sees it
    if not api.url:
        yield _without_server()
        return
    name, _, password = (api.auth_string.get_secret_value() if api.auth_string else "").partition(":")
    user, token = (name, password) if api.auth_string else None, api.key.get_secret_value() if api.key else ""
    get = partial(_get, api.url, user, token)
    try:
        health, version = get("/health"), get("/admin/version")
        if _json(health) is not True:
            found = f"{api.url} answers {health.status_code}, and not as Prefect's API does"
            yield Finding("prefect server", "error", found, "an address that ends in /api", _START_PREFECT)
        elif version.status_code in _REFUSED:
            found, mend = f"{api.url} does not accept these credentials", "export PREFECT_API_AUTH_STRING=user:…"
            yield Finding("prefect server", "error", found, "its password", mend)
        else:
            yield Finding("prefect server", "ok", f"{api.url} answers")
            yield _version("prefect", str(_json(version)))
            yield from (_pool_finding(pool, get(f"/work_pools/{pool}")) for pool in pools)
    except NoAnswerError as error:
        expected = "a server that answers, or PREFECT_API_URL unset"
        yield Finding("prefect server", "error", f"{api.url} does not answer: {error}", expected, _START_PREFECT)


def _without_server() -> Finding:
    from prefect.settings import load_profiles

    # If pyproject.toml sets Prefect's home, `prefect config set` writes a profile that flows don't read.
    profile = load_profiles().active_profile
    named = {setting.name: value for setting, value in profile.settings.items()} if profile else {}
    if url := named.get("PREFECT_API_URL"):
        found = f"Prefect's profile names {url}, which flows don't see"
        return Finding("prefect server", "warning", found, "PREFECT_API_URL in the environment", _ADDRESS)
    return Finding("prefect server", "skipped", "PREFECT_API_URL is not set: flows run without a server")


def _pool_finding(pool: str, answer: "requests.Response") -> Finding:
    name = f"work pool {pool}"
    if answer.status_code == 404:
        expected = "a pool for the deployments"
        return Finding(name, "error", "the server does not have it", expected, "python -m flows.deploy")
    found = _json(answer)
    if answer.status_code != 200 or not isinstance(found, dict):
        return Finding(name, "error", f"the server answers {answer.status_code}", "what the pool is", _START_PREFECT)
    # A pool is READY while one of its workers sends heartbeats.
    match found.get("status"):
        case "READY":
            return Finding(name, "ok", "a worker is online")
        case "PAUSED":
            mend = f"prefect work-pool resume {pool}"
            return Finding(name, "warning", "it is paused", "a pool that starts runs", mend)
        case _:
            mend = f'FUSMAE_WORKSPACE="$PWD" prefect worker start --pool {pool}'
            return Finding(name, "warning", "no worker is online", "a worker that takes its runs", mend)
