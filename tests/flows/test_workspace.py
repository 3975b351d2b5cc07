"""A flow run's worktree: the host's cache, raw data and resume folders, its own parameters, and nothing left."""

import os
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from flows import workspace as module
from flows.workspace import open_workspace
from fusmae.errors import CheckoutError, ConfigError
from fusmae.runs.git import Worktree
from fusmae.runs.mlflow_address import sqlite_uri
from fusmae.runs.resume_folder import RESUME_ROOT

ROOT = Path(__file__).parents[2]


def git(*arguments):
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A clone of this project, with the run of a flow in progress."""
    listed = git("-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    for name in listed:
        if (ROOT / name).is_file():
            (tmp_path / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "clone" / name).write_bytes((ROOT / name).read_bytes())
    monkeypatch.chdir(tmp_path / "clone")
    for name in ("MLFLOW_TRACKING_URI", RESUME_ROOT, "GIT_AUTHOR_NAME"):
        monkeypatch.delenv(name, raising=False)
    git("init", "-q")
    git("add", "-A")
    git("-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-q", "-m", "as it stands")
    as_a_run(monkeypatch, [])
    return tmp_path / "clone"


def as_a_run(monkeypatch, commits):
    """Be in a flow run that Prefect knows these commits of."""
    monkeypatch.setattr(module.flow_run, "get_id", lambda: "12345678-run")
    monkeypatch.setattr(module.flow_run, "get_flow_name", lambda: "pretrain")
    monkeypatch.setattr(module, "commit_of_run", lambda: commits[-1] if commits else "")
    monkeypatch.setattr(module, "note_host", commits.append)


def test_by_hand_a_flow_works_in_the_checkout(checkout):
    with open_workspace("", []) as made:
        assert made.folder == checkout
        assert made.experiment == ""
        assert "MLFLOW_TRACKING_URI" not in made.environment


def test_with_overrides_it_works_in_a_worktree_that_is_gone_afterwards(checkout):
    with open_workspace("", ["pretrain.epochs=7"]) as made:
        assert made.folder != checkout
        params = yaml.safe_load((made.folder / "params.yaml").read_text(encoding="utf-8"))
        assert params["pretrain"]["epochs"] == 7
        assert made.experiment == "pretrain-12345678"
        assert made.commit == git("rev-parse", "HEAD")
    assert not made.folder.exists()
    assert str(made.folder) not in git("worktree", "list")
    assert git("status", "--porcelain") == ""


def test_cache_registry_scratch_and_raw_data_are_the_hosts(checkout):
    with open_workspace("HEAD", []) as made:
        cache = subprocess.run(
            ["dvc", "cache", "dir"], cwd=made.folder, env=made.environment, capture_output=True, text=True, check=True
        )
        assert Path(cache.stdout.strip()) == checkout / ".dvc" / "cache"
        assert made.environment["MLFLOW_TRACKING_URI"] == sqlite_uri(checkout / "mlruns" / "mlflow.db")
        assert Path(made.environment[RESUME_ROOT]).is_relative_to(checkout)
        assert (made.folder / "data/downloads").resolve() == checkout / "data/downloads"
        assert (made.folder / "data/raw/sample").resolve().is_relative_to(checkout / ".fusmae/raw")


@pytest.mark.parametrize("given", ["sqlite:///mlruns/mlflow.db", "http://me:secret@127.0.0.1:5000"])
def test_a_store_that_is_named_is_the_same_in_the_worktree(checkout, monkeypatch, given):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    with open_workspace("HEAD", []) as made:
        wanted = given if given.startswith("http") else sqlite_uri(checkout / "mlruns" / "mlflow.db")
        assert made.environment["MLFLOW_TRACKING_URI"] == wanted


def test_a_killed_run_finds_its_worktree_and_commit_again(checkout, monkeypatch):
    monkeypatch.setattr(module.Worktree, "remove", lambda self: None)  # a killed process removes nothing
    killed = open_workspace("", ["seed=3"])
    made = killed.__enter__()
    (made.folder / "left").write_text("half done")
    error = KeyboardInterrupt()
    killed.__exit__(type(error), error, None)
    monkeypatch.undo()
    monkeypatch.chdir(checkout)
    as_a_run(monkeypatch, [made.commit])
    git("-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-q", "--allow-empty", "-m", "later")
    with open_workspace("", ["seed=3"]) as again:
        assert (again.folder / "left").read_text() == "half done"
        assert again.commit == made.commit != git("rev-parse", "HEAD")


def test_worktrees_of_killed_runs_go_after_a_week_but_not_those_of_runs_in_progress(checkout):
    runs = checkout / ".fusmae" / "flow-runs"
    week_old = time.time() - 8 * 86_400
    for name in ("killed", "in-progress", "of-today"):
        Worktree(runs / name, git("rev-parse", "HEAD"), "").make()
        if name != "of-today":
            os.utime(runs / name, (week_old, week_old))
    with FileLock(runs / "in-progress.lock"), open_workspace("HEAD", []):
        assert {path.name for path in runs.glob("*/")} == {"in-progress", "of-today", "12345678-run"}
    assert "flow-runs/killed" not in git("worktree", "list")


def test_a_run_that_began_on_another_host_works_at_the_commit_that_it_began_at(checkout, monkeypatch):
    began = git("rev-parse", "HEAD")
    commits = [began]
    as_a_run(monkeypatch, commits)
    git("-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-q", "--allow-empty", "-m", "later")
    with open_workspace("HEAD", []) as made:
        assert made.commit == began != git("rev-parse", "HEAD")
    assert commits == [began, began]


@pytest.mark.parametrize(
    ("commit", "overrides", "error"),
    [("no-such-branch", [], CheckoutError), ("--output=x", [], CheckoutError), ("", ["no.such=1"], ConfigError)],
)
def test_what_can_t_be_made_is_said_and_nothing_is_left(checkout, commit, overrides, error):
    run = open_workspace(commit, overrides)
    with pytest.raises(error):
        run.__enter__()
    assert git("worktree", "list").count("\n") == 0
    assert not (checkout / "x").exists()


def test_a_user_s_own_pairs_are_those_of_the_checkout_whatever_that_was_run_with(checkout):
    own = checkout / "data/raw/folder/pairs.csv"
    own.parent.mkdir(parents=True)
    own.write_text("key,labels\n")
    with open_workspace("", ["data=folder"]) as made:
        assert (made.folder / "data/raw/folder/pairs.csv").read_text() == own.read_text()


def test_a_run_of_a_user_s_own_pairs_takes_what_they_say_of_themselves(checkout):
    described = checkout / "data/raw/folder/folder.yaml"
    described.parent.mkdir(parents=True)
    section = yaml.safe_load((checkout / "conf/data/folder.yaml").read_text(encoding="utf-8"))
    section["source"]["classes"] = ["maize", "wheat"]
    described.write_text(yaml.safe_dump(section), encoding="utf-8")
    with open_workspace("", ["data=folder"]) as made:
        params = yaml.safe_load((made.folder / "params.yaml").read_text(encoding="utf-8"))
    assert params["data"] == section
