"""Stages that run among secrets leave none in what they print, write or tell MLflow."""

import os
import re
import socket
import sqlite3
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

pytestmark = [pytest.mark.xdist_group("copies of the pipeline"), pytest.mark.timeout(900)]

SECRETS = {name: f"sEcReT-{name}" for name in ("server", "aws", "prefect", "index", "remote", "token", "mirror")}
STAGES = ("probe@pretrained", "register")  # a run of its own; a model, a version, files


def environment(port: int) -> dict[str, str]:
    return {
        "MLFLOW_TRACKING_URI": f"http://admin:{SECRETS['server']}@127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "AKIA",
        "AWS_SECRET_ACCESS_KEY": SECRETS["aws"],
        "PREFECT_API_AUTH_STRING": f"admin:{SECRETS['prefect']}",
        "PIP_INDEX_URL": f"https://someone:{SECRETS['index']}@index.example.org/simple",
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture(scope="module")
def copied(new_workspace, untouched, tmp_path_factory):
    """A copy of the finished workspace."""
    return new_workspace(tmp_path_factory.mktemp("secrets") / "fusmae", untouched)


@pytest.fixture(scope="module")
def server(copied, tmp_path_factory):
    """MLflow's server with its own sign-in: without the right password nothing is logged at all."""
    folder = tmp_path_factory.mktemp("server")
    settings, log = folder.parent / f"{folder.name}.ini", folder.parent / f"{folder.name}.log"
    settings.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder / 'auth.db'}\n"
        f"admin_username = admin\nadmin_password = {SECRETS['server']}\nauth_cache_ttl_seconds = 600\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {"MLFLOW_AUTH_CONFIG_PATH": str(settings), "MLFLOW_FLASK_SERVER_SECRET_KEY": "x", "PYTHONUNBUFFERED": "1"}
    command = [str(copied.folder / ".venv/bin/mlflow"), "server", "--app-name", "basic-auth", "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--artifacts-destination", str(folder)]
    with log.open("w") as file:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=folder,
            env=copied.environment | own,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            wait_until_healthy(port, process, log)
            yield folder, port, log
        finally:
            os.killpg(process.pid, 9)
            process.wait()


def wait_until_healthy(port, process, log):
    end = time.monotonic() + 180
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"MLflow's server does not answer:\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def ran(copied, server):
    """The workspace in which stages ran anew, with secrets wherever people have them."""
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org")
    copied.run(*git, "remote", "add", "origin", f"https://someone:{SECRETS['remote']}@git.example.org/x.git")
    copied.run(*git, "remote", "add", "alone", f"https://{SECRETS['token']}@git.example.org/x.git")
    params = copied.folder / "params.yaml"
    address = f"https://someone:{SECRETS['mirror']}@mirror.example.org/"
    params.write_text(params.read_text().replace("mirrors: []", f"mirrors: ['{address}']"))
    assert SECRETS["mirror"] in params.read_text()
    copied.printed = "".join(
        copied.run(".venv/bin/dvc", "repro", "--force", "--single-item", stage, **environment(server[1])).stdout
        for stage in STAGES
    )
    copied.printed += copied.run(".venv/bin/python", "-m", "fusmae", "summary", **environment(server[1])).stdout
    return copied


def secrets_in(text: str) -> list[str]:
    return [name for name, secret in SECRETS.items() if secret in text]


def text_of(path: Path) -> str:
    """A file's bytes as text; of a database every row, for a long value may lie in pieces."""
    if path.suffix == ".db":
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            return "\n".join(database.iterdump())
    return path.read_bytes().decode("latin-1")


def leaks(folder: Path, *but: str) -> dict[str, list[str]]:
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and not path.is_symlink() and name not in but and not name.startswith(".venv/"):
            found |= {name: secrets} if (secrets := secrets_in(text_of(path))) else {}
    return found


def test_what_is_looked_for_is_found(tmp_path):
    (tmp_path / "file").write_text(f"x{SECRETS['aws']}y")
    with sqlite3.connect(tmp_path / "some.db") as database:
        database.execute("create table t (v text)")
        database.execute("insert into t values (?)", ("x" * 100_000 + SECRETS["token"],))
    assert leaks(tmp_path) == {"file": ["aws"], "some.db": ["token"]}


def test_the_stages_told_the_server_what_they_did(ran, server):
    """With the password, since nobody else may write."""
    dump = text_of(server[0] / "mlflow.db")
    assert "probe-pretrained" in dump
    assert "mlflow.source.git.commit" in dump
    assert re.search(r"INSERT INTO \"?model_versions\"? .*fusmae", dump)
    assert not re.search(r"(?<![.\d])401", ran.printed)  # a score may be 0.401


def test_nothing_printed_holds_a_secret(ran, server):
    assert secrets_in(ran.printed) == []
    assert secrets_in(server[2].read_text()) == []


def test_no_file_of_the_workspace_holds_a_secret_but_those_that_it_was_put_into(ran):
    assert leaks(ran.folder, ".git/config", "params.yaml") == {}
    assert leaks(ran.home) == leaks(ran.scratch) == {}


def test_neither_database_nor_artifacts_of_the_server_hold_a_secret(ran, server):
    assert list(server[0].rglob("model.onnx")) != []
    assert leaks(server[0]) == {}
