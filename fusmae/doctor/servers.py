"""Whether MLflow's store answers, and has the schema that the installed MLflow needs; MLflow is not imported."""

import os
import re
import shlex
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from importlib import metadata, util
from pathlib import Path

from fusmae.doctor.finding import Finding, described
from fusmae.doctor.http import NoAnswerError, ServerAddress, server_at
from fusmae.doctor.versions import reinstall
from fusmae.errors import RegistryError
from fusmae.runs.mlflow_address import sqlite_uri, store_path, tracking_uri
from fusmae.runs.mlflow_artifacts import ARTIFACTS, outdated_addresses
from fusmae.runs.mlflow_store import MINIMUM_SERVER, require_version

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
        yield from _check_server(_server())
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
        reason = f"{path} names no schema: it was cut off as it was made"
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


def _revisions() -> Mapping[str, str]:
    """The parent of each schema revision, read from MLflow's scripts as text; importing them would take seconds."""
    package = util.find_spec("mlflow")
    folders = (package.submodule_search_locations if package else None) or []
    found = {}
    for folder in folders:
        for script in Path(folder).glob("store/db_migrations/versions/*.py"):
            text = script.read_text(encoding="utf-8")
            if revision := re.search(r"^revision = [\"'](\w+)", text, re.MULTILINE):
                before = re.search(r"^down_revision = [\"'](\w+)", text, re.MULTILINE)
                found[revision[1]] = before[1] if before else ""
    return found


def _check_artifacts(database: Path) -> Iterator[Finding]:
    folder = database.parent / ARTIFACTS
    nearest = next(path for path in (folder, *folder.parents) if path.is_dir())
    try:
        tempfile.TemporaryFile(dir=nearest).close()
    except OSError as error:
        mend = f"ls -ld {shlex.quote(str(nearest))}; df {shlex.quote(str(nearest))}"
        yield Finding("mlflow artifacts", "error", described(error), f"{nearest} can be written to", mend)
        return
    from sqlalchemy.exc import SQLAlchemyError

    try:
        outdated = outdated_addresses(database) if database.exists() else []
    except SQLAlchemyError:
        return  # a finding about the database exists already
    if not outdated:
        yield Finding("mlflow artifacts", "ok", f"{nearest}, writable")
    for other in outdated:
        found, expected = f"the database names artifacts in {other.folder}", f"artifacts in {other.store}"
        if other.missing is None:
            found += ": it was moved or copied from there"
            yield Finding("mlflow artifacts", "warning", found, expected, _UPDATE)
        else:
            found += f", and {other.missing} did not come along"
            yield Finding("mlflow artifacts", "error", found, expected, f"{other.copy_command}; {_UPDATE}")


def _server() -> ServerAddress:
    """The server at the original address, with user and password, which `tracking_uri` leaves out."""
    given = os.environ.get
    name, password = given("MLFLOW_TRACKING_USERNAME"), given("MLFLOW_TRACKING_PASSWORD", "")
    user = (name, password) if name else None
    return server_at(given("MLFLOW_TRACKING_URI", ""), user, given("MLFLOW_TRACKING_TOKEN", ""))


def _check_server(server: ServerAddress) -> Iterator[Finding]:
    start = "mlflow server --backend-store-uri sqlite:///mlruns/mlflow.db   # on the server, or correct the address"
    try:
        health = server.get("/health")
        store = server.get("/api/2.0/mlflow/experiments/search?max_results=1")
        version = server.get("/version")
    except NoAnswerError as error:
        expected = "a server that answers, or MLFLOW_TRACKING_URI unset"
        yield Finding("mlflow store", "error", f"{server.url} does not answer: {error}", expected, start)
        return
    if store.is_refusal:
        mend = "export MLFLOW_TRACKING_USERNAME=… MLFLOW_TRACKING_PASSWORD=…"
        yield Finding("mlflow store", "error", f"{server.url} does not know who asks", "a user that it knows", mend)
    elif health.status != 200 or not isinstance(store.json(), dict) or store.status != 200:
        found = f"{server.url} answers {health.status} to /health and {store.status} to a search"
        yield Finding("mlflow store", "error", found, "an MLflow server whose database answers", start)
    else:
        yield Finding("mlflow store", "ok", f"{server.url} answers")
        yield _version_finding(version.text.strip(), version.status)


def _version_finding(there: str, status: int) -> Finding:
    here = metadata.version("mlflow")
    if status != 200:
        return Finding("mlflow version", "skipped", f"the server does not tell it ({status})")
    if there == here:
        return Finding("mlflow version", "ok", f"{here} on both sides")
    found, mend = f"{there} there, {here} here", f"pip install mlflow=={here}   # on the server"
    try:
        require_version(there)
    except RegistryError:
        return Finding("mlflow version", "error", found, f"{MINIMUM_SERVER} or later on the server", mend)
    return Finding("mlflow version", "warning", found, "the same on both sides", mend)
