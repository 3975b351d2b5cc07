"""No secret stands in a log, on a command line or in a file that others may read; no process has root's rights."""

import os
import stat
import subprocess
from pathlib import Path

import psycopg2
import pytest

pytestmark = [pytest.mark.xdist_group("servers"), pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def secrets(servers):
    """Every secret by its name; Prefect's user and the name of the bucket's key are none."""
    paths = [path for path in servers.secrets.iterdir() if path.name not in (".gitignore", "s3_access")]
    return {path.name: path.read_text().split(":")[-1] for path in paths}


@pytest.fixture(scope="module")
def running(mlflow_server, prefect_server, servers):
    """Every process of every service: /proc's folders."""
    sessions = {service.process.pid for service in servers.services if service.process.poll() is None}
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # After the name in brackets: state, parent, group, session.
            session = int((folder / "stat").read_text().rpartition(")")[2].split()[3])
        except OSError:
            continue
        if session in sessions:
            found.append(folder)
    assert len(found) > len(sessions) >= 4
    return found


def test_no_secret_stands_on_a_command_line(running, secrets):
    lines = [(folder / "cmdline").read_text() for folder in running]
    assert any("mlflow" in line for line in lines)
    assert any("prefect" in line for line in lines)
    assert not [name for name, value in secrets.items() if any(value in line for line in lines)]


def test_no_secret_stands_in_a_log(running, secrets, postgres, servers):
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(f"{postgres.url}/mlflow", password="wrong")
    logs = {path.name: path.read_text() for path in (servers.folder / "logs").iterdir()}
    assert {"postgres.txt", "mlflow.txt", "prefect.txt"} <= set(logs)
    assert "password authentication failed" in logs["postgres.txt"]
    assert not [(log, name) for log, text in logs.items() for name, value in secrets.items() if value in text]


def test_a_failing_statement_of_the_first_start_keeps_its_password_to_itself(postgres, servers, secrets):
    script = servers.repository / "deploy" / "postgres-init.sh"
    environment = postgres.environment | postgres.env | {"SECRETS": str(servers.secrets)}
    again = subprocess.run([script], env=environment, capture_output=True, text=True)
    assert again.returncode
    assert 'role "mlflow" already exists' in again.stderr + postgres.printed()
    assert not [name for name, value in secrets.items() if value in again.stdout + again.stderr + postgres.printed()]


def test_the_file_with_databases_passwords_is_for_its_owner_only(mlflow_server, prefect_server, secrets):
    for server, names in ((mlflow_server, ("mlflow_db", "mlflow_auth_db")), (prefect_server, ("prefect_db",))):
        path = Path(server.environment["PGPASSFILE"])
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert [line.split(":")[-1] for line in path.read_text().splitlines()] == [secrets[name] for name in names]


def test_each_user_enters_its_own_database_only(postgres, secrets):
    users = {"mlflow": "mlflow_db", "mlflow_auth": "mlflow_auth_db", "prefect": "prefect_db"}
    address = postgres.url.partition("@")[2]
    for user, secret in users.items():
        psycopg2.connect(f"postgresql://{user}@{address}/{user}", password=secrets[secret]).close()
        for other in users.keys() - {user}:
            with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
                psycopg2.connect(f"postgresql://{user}@{address}/{other}", password=secrets[secret])
    rolled = postgres.query("SELECT rolname FROM pg_authid WHERE rolcanlogin AND rolpassword LIKE 'SCRAM-SHA-256$%'")
    assert {name for (name,) in rolled} == {*users, "postgres"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start services as other users")
def test_no_process_has_rights_that_its_user_has_not(running):
    for folder in running:
        status = dict(line.split(":\t", 1) for line in (folder / "status").read_text().splitlines() if ":\t" in line)
        name = status["Name"]
        if "moto" in (folder / "cmdline").read_text():
            continue
        assert (name, int(status["CapEff"], 16), status["NoNewPrivs"]) == (name, 0, "1")


@pytest.mark.parametrize("content", [None, ""])
def test_a_secret_that_is_missing_or_empty_stops_the_start(servers, tmp_path, content):
    secret = tmp_path / "secret"
    if content is not None:
        secret.write_text(content)
    command = [servers.repository / "deploy" / "with-secrets", "echo", "started"]
    environment = {"PATH": os.environ["PATH"], "PASSWORD_FROM_FILE": str(secret)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode
    assert f"{secret} is missing or empty" in done.stderr
    assert not done.stdout


def test_secrets_are_made_once(servers, tmp_path):
    make = [servers.repository / "deploy" / "make-secrets", tmp_path / "secrets"]
    subprocess.run(make, check=True)
    first = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    (tmp_path / "secrets" / "prefect_db").unlink()
    subprocess.run(make, check=True)
    second = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert {name for name, value in second.items() if first[name] != value} == {"prefect_db"}
    assert len(set(second.values())) == len(second)
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
