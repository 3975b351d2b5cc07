"""`make` in a folder that is no git checkout says so before it installs anything; its help names every target."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Targets that other targets run first, and that nobody calls.
INTERNAL = {"checkout"}


@pytest.fixture
def unpacked(tmp_path, monkeypatch):
    """What an archive holds, as far as `make` looks at it."""
    folder = tmp_path / "outer" / "fusmae-main"
    folder.mkdir(parents=True)
    for name in ("Makefile", "dvc.yaml", "pyproject.toml", "requirements.lock", ".gitignore"):
        shutil.copy2(ROOT / name, folder)
    monkeypatch.chdir(folder)
    for name in [name for name in os.environ if name.startswith(("GIT_", "MAKE"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    return folder


def make(*targets):
    return subprocess.run(["make", *targets], capture_output=True, text=True)


def git(*arguments):
    subprocess.run(["git", *arguments], check=True, capture_output=True)


@pytest.mark.parametrize("target", ["pipeline", "test", "test-all", "study", ".venv/installed"])
def test_nothing_is_installed_in_a_folder_without_git(unpacked, target):
    done = make(target)
    assert done.returncode == 2
    assert "got:      fatal: not a git repository" in done.stdout
    assert not (unpacked / ".venv").exists()


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("outer", ["no repository", "one without a commit", "one with a commit"])
def test_the_command_makes_a_checkout(unpacked, outer, is_known):
    if is_known:
        git("config", "--global", "user.name", "t")
        git("config", "--global", "user.email", "t@example.org")
    if outer != "no repository":
        git("init", "-q", "..")
    if outer == "one with a commit":
        git("-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-q", "--allow-empty", "-m", "another's")
    done = make("checkout")
    assert done.returncode == 2
    command = done.stdout.partition("next:")[2].strip()
    assert ("git config" in command) != is_known
    subprocess.run(command, shell=True, check=True, capture_output=True)
    assert (unpacked / ".git").exists()
    assert make("checkout").returncode == 0


def test_a_worktree_and_a_folder_of_a_larger_repository_are_checkouts(unpacked, monkeypatch):
    git("init", "-q", "..")
    git("add", "--all")
    git("-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-q", "-m", "a larger one")
    assert make("checkout").returncode == 0
    git("worktree", "add", "-q", "--detach", "../../beside")
    monkeypatch.chdir("../../beside/fusmae-main")
    assert make("checkout").returncode == 0


def test_a_repository_of_another_user_is_told_how_to_be_trusted(unpacked, monkeypatch):
    git("init", "-q")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    done = make("checkout")
    assert "dubious ownership" in done.stdout
    assert f'next:     git config --global --add safe.directory "{unpacked}"' in done.stdout


def test_help_describes_every_target_that_is_not_internal(unpacked):
    (phony,) = re.findall(r"^\.PHONY: (.*)$", Path("Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    printed = dict(line.split(maxsplit=1) for line in make("help").stdout.splitlines())
    assert printed.keys() == set(phony.split()) - INTERNAL
    assert set(phony.split()) > INTERNAL


def test_help_is_what_make_prints_without_a_target(unpacked):
    assert make().stdout == make("help").stdout != ""
