"""A DVC project with one stage in a git checkout, and a server that answers what it is told to."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.web import QuietHandler, web_server

ROOT = Path(__file__).parents[2]
DVC = str(Path(sys.executable).with_name("dvc"))
SETTINGS = ("MLFLOW", "PREFECT", "DVC", "FUSMAE", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
GRAPH = """stages:
  copy:
    cmd: cp params.yaml copied.yaml
    deps:
      - params.yaml
    params:
      - seed
    outs:
      - copied.yaml
"""


def run(*command, cwd=None):
    return subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, check=True).stdout


def commit(folder):
    run("git", "add", "--all", cwd=folder)
    run("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-q", "-m", "as it is", cwd=folder)


@pytest.fixture(scope="session")
def finished_project(tmp_path_factory):
    """A project whose stage has run; to be copied."""
    folder = tmp_path_factory.mktemp("stack") / "project"
    folder.mkdir()
    for name in ("params.yaml", "pyproject.toml", "requirements.lock"):
        shutil.copy2(ROOT / name, folder)
    (folder / "dvc.yaml").write_text(GRAPH)
    (folder / ".gitignore").write_text("/mlruns\n/.fusmae\n/.prefect\n/remote\n")
    run("git", "init", "-q", "-b", "main", cwd=folder)
    run(DVC, "init", "-q", cwd=folder)
    for name, value in {"core.analytics": "false", "core.site_cache_dir": ".fusmae/dvc"}.items():
        run(DVC, "config", name, value, cwd=folder)
    run(DVC, "repro", "-q", cwd=folder)
    commit(folder)
    return folder


@pytest.fixture
def project(finished_project, tmp_path, monkeypatch):
    """The project to break; the test runs in it, with none of our settings."""
    folder = tmp_path / "project"
    shutil.copytree(finished_project, folder, symlinks=True)
    # git compares times that the copy does not keep.
    run("git", "status", cwd=folder)
    monkeypatch.chdir(folder)
    for name in list(os.environ):
        if name.startswith(SETTINGS):
            monkeypatch.delenv(name)
    return folder


def only(findings):
    (found,) = findings
    return found


def statuses(findings):
    return {finding.name: finding.status for finding in findings}


@contextmanager
def answering(answers) -> Iterator[str]:
    """The address of a server with these bodies by path; others are 404. Asked for a password, it wants basic auth."""

    class Handler(QuietHandler):
        def do_GET(self):
            body = answers.get(self.path.split("?")[0])
            wanted = answers.get("authorization")
            code = 404 if body is None else 200
            if wanted and self.headers.get("Authorization") != wanted and self.path not in ("/health", "/api/health"):
                code = 401
            self.send_response(code)
            self.end_headers()
            self.wfile.write((body or "").encode())

    with web_server(Handler) as server:
        yield server.address


@pytest.fixture
def nobody():
    """An address where nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


@pytest.fixture
def silent():
    """An address that takes connections and never says a word."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        yield f"127.0.0.1:{held.getsockname()[1]}"
