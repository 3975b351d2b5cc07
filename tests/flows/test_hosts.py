"""A flow run that changes its host goes on at the commit that it began at, and both hosts are noted with it."""

import subprocess
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from flows import workspace as module
from flows.workspace import commit_of_run, hosts_of_run, note_host
from fusmae.errors import CheckoutError

RUN = "0b6a8dd8-5a3b-4e51-8b2c-9f3f0c1d2e3f"
IDENTITY = ("-c", "user.name=t", "-c", "user.email=t@example.org")


def git(folder, *arguments):
    return subprocess.run(["git", "-C", folder, *arguments], check=True, capture_output=True, text=True).stdout.strip()


def commit(folder, message):
    git(folder, *IDENTITY, "commit", "-q", "--allow-empty", "-m", message)
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def labels(monkeypatch):
    """The labels of a flow run, as Prefect keeps them: an update adds to them."""
    kept = {}
    client = SimpleNamespace(
        read_flow_run=lambda run: SimpleNamespace(labels=dict(kept)),
        update_flow_run_labels=lambda run, labels: kept.update(labels),
    )

    @contextmanager
    def get_client(sync_client):
        yield client

    monkeypatch.setattr(module, "get_client", get_client)
    monkeypatch.setattr(module.flow_run, "get_id", lambda: RUN)
    return kept


@pytest.fixture
def clones(tmp_path):
    """Two hosts' clones of one origin."""
    git(tmp_path, "init", "-q", "--bare", "-b", "main", "origin")
    git(tmp_path, "clone", "-q", "origin", "one")
    git(tmp_path / "one", "checkout", "-q", "-b", "main")
    commit(tmp_path / "one", "first")
    git(tmp_path / "one", "push", "-q", "origin", "main")
    git(tmp_path, "clone", "-q", "origin", "two")
    return tmp_path / "one", tmp_path / "two"


def on(monkeypatch, clone):
    monkeypatch.chdir(clone)
    monkeypatch.setattr(module.socket, "gethostname", lambda: clone.name)


def begin_on_one(monkeypatch, clones):
    on(monkeypatch, clones[0])
    assert commit_of_run() == ""
    began = commit(clones[0], "what the run begins at")
    note_host(began)
    on(monkeypatch, clones[1])
    return began


@pytest.mark.parametrize("branch", ["main", "side"])
def test_the_other_host_fetches_the_commit_that_the_run_began_at(labels, clones, monkeypatch, branch):
    began = begin_on_one(monkeypatch, clones)
    git(clones[0], "push", "-q", "origin", f"HEAD:{branch}")
    assert commit_of_run() == began
    assert git(clones[1], "cat-file", "-t", began) == "commit"
    note_host(began)
    note_host(began)  # killed and begun again
    assert hosts_of_run() == f"one at {began[:12]}, two at {began[:12]}"


def test_a_commit_that_is_on_the_first_host_only_is_refused_until_it_is_pushed(labels, clones, monkeypatch):
    began = begin_on_one(monkeypatch, clones)
    with pytest.raises(CheckoutError, match=rf"worked on: one at {began[:12]}\n  expected: commit {began}"):
        commit_of_run()
    git(clones[0], "push", "-q", "origin", "main")
    assert commit_of_run() == began
