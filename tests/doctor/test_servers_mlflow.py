import base64
import json
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from fusmae.doctor.servers import _revisions, check_local_store, check_remote_store
from fusmae.runs.mlflow_address import sqlite_uri
from tests.doctor.conftest import answering, only

BEFORE = """
import sys
import sqlalchemy
from alembic import command
from alembic.script import ScriptDirectory
from mlflow.store.db.utils import _get_alembic_config
from mlflow.store.tracking.dbmodels.initial_models import Base
uri = f"sqlite:///{sys.argv[1]}"
engine = sqlalchemy.create_engine(uri)
Base.metadata.create_all(engine)
config = _get_alembic_config(uri)
with engine.begin() as connection:
    config.attributes["connection"] = connection
    command.upgrade(config, ScriptDirectory.from_config(config).get_revision("head").down_revision)
"""
ANSWERS = {
    "/health": "OK",
    "/version": "3.17.2",
    "/api/2.0/mlflow/experiments/search": json.dumps({"experiments": []}),
}


def database(schema):
    path = Path("mlruns/mlflow.db")
    path.parent.mkdir(exist_ok=True)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))")
        connection.execute("INSERT INTO alembic_version VALUES (?)", (schema,))
    return path


def found_of(name):
    return {finding.name: finding for finding in check_local_store()}[name]


def head():
    return next(name for name in _revisions() if name not in _revisions().values())


def test_the_schema_that_is_wanted_is_mlflow_s_own_word(project):
    from mlflow.store.db.utils import _get_latest_schema_revision

    assert head() == _get_latest_schema_revision()


def test_no_database_so_far_is_well_and_none_is_made(project):
    assert {finding.status for finding in check_local_store()} == {"ok"}
    assert not Path("mlruns").exists()


def test_a_database_of_this_mlflow_is_well(project):
    database(head())
    assert found_of("mlflow store").status == "ok"


def test_a_database_of_an_older_mlflow_is_an_error_that_its_command_mends(project):
    Path("mlruns").mkdir()
    subprocess.run([sys.executable, "-c", BEFORE, "mlruns/mlflow.db"], check=True, capture_output=True)
    found = found_of("mlflow store")
    assert found.status == "error"
    assert found.expected == f"schema {head()}"
    command = found.mend.replace("mlflow db", f"{Path(sys.executable).with_name('mlflow')} db")
    subprocess.run(command, shell=True, check=True, capture_output=True)
    assert found_of("mlflow store").status == "ok"
    assert Path("mlruns/mlflow.db.before").exists()


def test_a_database_of_a_newer_mlflow_asks_for_that_one(project):
    database("ffffffffffff")
    found = found_of("mlflow store")
    assert found.status == "error"
    assert "a newer one made it" in found.found
    assert "pip" in found.mend


@pytest.mark.parametrize("content", [b"", b"no database at all, but some text of a certain length" * 20])
def test_a_file_that_is_no_database_is_an_error_that_its_command_mends(project, content):
    Path("mlruns").mkdir()
    Path("mlruns/mlflow.db").write_bytes(content)
    found = found_of("mlflow store")
    assert found.status == "error"
    assert Path("mlruns/mlflow.db").read_bytes() == content
    subprocess.run(found.mend, shell=True, check=True)
    assert found_of("mlflow store").status == "ok"


def test_a_database_that_was_cut_off_as_it_was_made_is_an_error(project):
    path = database("x")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM alembic_version")
    assert "interrupted" in found_of("mlflow store").found


def test_artifacts_that_cannot_be_written_are_an_error(project, small_disk):
    Path("mlruns").symlink_to(small_disk)
    done = subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(done.stderr)
    assert found_of("mlflow artifacts").status == "error"


def test_a_store_of_files_is_refused_as_mlflow_refuses_it(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:./mlruns")
    found = found_of("mlflow store")
    assert found.status == "error"
    assert list(check_remote_store()) == []


def test_a_server_that_answers_is_well(project, monkeypatch):
    with answering(ANSWERS) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        assert [finding.status for finding in check_remote_store()] == ["ok", "ok"]
        assert list(check_local_store()) == []


@pytest.mark.parametrize(("there", "status"), [("3.9.0", "warning"), ("99.1", "warning"), ("2.22.1", "error")])
def test_a_server_of_another_version_is_a_warning_and_one_that_is_too_old_an_error(project, monkeypatch, there, status):
    with answering(ANSWERS | {"/version": there}) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        _, version = check_remote_store()
    assert version.status == status
    assert f"{there} there" in version.found
    assert "on the server" in version.mend


def test_a_database_in_a_folder_of_any_name_is_looked_at(project, monkeypatch):
    folder = project / "50%41 ü?a=b#c 'd'"
    folder.mkdir()
    monkeypatch.chdir(folder)
    path = database("0" * 12)
    found = found_of("mlflow store")
    assert "schema 000000000000" in found.found
    path.unlink()
    subprocess.run(
        [sys.executable, "-c", BEFORE.replace('f"sqlite:///{sys.argv[1]}"', "sys.argv[1]"), sqlite_uri(path)],
        check=True,
        capture_output=True,
    )
    command = found_of("mlflow store").mend.replace("mlflow db", f"{sys.executable} -m mlflow db")
    subprocess.run(command, shell=True, check=True, capture_output=True)
    assert found_of("mlflow store").status == "ok"


def test_a_server_that_is_down_is_an_error_within_seconds(project, monkeypatch, nobody):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:hunter2@{nobody}")
    began = time.monotonic()
    found = only(check_remote_store())
    assert time.monotonic() - began < 5
    assert found.status == "error"
    assert found.found == f"http://{nobody} does not answer: Connection refused"


def test_a_server_that_says_nothing_is_given_up(project, monkeypatch, silent):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{silent}")
    assert "no answer within 5 s" in only(check_remote_store()).found


def test_something_else_at_the_address_is_an_error(project, monkeypatch):
    with answering({"/health": "fine"}) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        assert only(check_remote_store()).status == "error"


@pytest.mark.parametrize("is_in_address", [True, False])
def test_user_and_password_are_used_and_not_shown(project, monkeypatch, is_in_address):
    wanted = "Basic " + base64.b64encode(b"me:hunter2").decode()
    with answering(ANSWERS | {"authorization": wanted}) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        refused = only(check_remote_store())
        assert "does not accept these credentials" in refused.found
        if is_in_address:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", address.replace("://", "://me:hunter2@"))
        else:
            monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
            monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2")
        found = list(check_remote_store())
    assert [finding.status for finding in found] == ["ok", "ok"]
    assert "hunter2" not in str(found)


def test_a_database_server_that_is_down_is_an_error(project, monkeypatch, nobody):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql+psycopg2://me:hunter2@{nobody}/mlflow")
    found = only(check_remote_store())
    assert found.status == "error"
    assert "Connection refused" in found.found


def test_a_database_whose_driver_is_not_installed_is_an_error(project, monkeypatch, nobody):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql+pg8000://me:hunter2@{nobody}/mlflow")
    found = only(check_remote_store())
    assert "No module named 'pg8000'" in found.found
    assert "psycopg2" in found.mend
