"""Workspaces: copies of this checkout as a new user has it, with a git repository of their own and an empty HOME."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import MakeOnce

ROOT = Path(__file__).parents[2]
OURS = ("MLFLOW", "PREFECT", "DVC", "FUSMAE", "VIRTUAL_ENV", "PYTHONPATH", "PYTEST", "MPLCONFIGDIR", "DO_NOT_TRACK")


class Workspace:
    """A checkout to run commands in.

    Args:
        folder: where it is, or is to be.
        source: a workspace that it becomes a copy of, data and models included; this checkout, if there is none.
    """

    def __init__(self, folder: Path, source: Path | None = None) -> None:
        self.folder = folder
        self.printed = ""
        self.left_outside: list[str] = []
        self.home = folder.parent / f"{folder.name}-home"
        self.scratch = folder.parent / f"{folder.name}-tmp"
        if folder.exists():
            return
        self.home.mkdir()
        self.scratch.mkdir()
        if source:
            shutil.copytree(source, folder, symlinks=True, ignore=shutil.ignore_patterns(".prefect"))
            return
        _copy_checkout(folder)
        # The environment is the one that `make` made here from the lock; files keep their times, so make agrees.
        if subprocess.run(["make", "-q", ".venv/installed"], cwd=ROOT, capture_output=True).returncode:
            pytest.fail(".venv is older than pyproject.toml or the lock: run `make check` first")
        (folder / ".venv").symlink_to(Path(sys.executable).parent.parent)
        for wheel in (ROOT / "data" / "downloads").glob("*.whl"):
            (folder / "data" / "downloads").mkdir(parents=True, exist_ok=True)
            shutil.copy2(wheel, folder / "data" / "downloads")
        self.run("git", "init", "-q", "-b", "main")
        self.run("git", "add", "-A")
        self.run("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-q", "-m", "as it stands")

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment without anything of ours, HOME empty."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        return {**kept, "HOME": str(self.home), "TMPDIR": str(self.scratch)}

    def run(self, *command: str, check: bool = True, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end and show what it printed if it fails."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**self.environment, **environment},
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-6000:]}")
        return done

    def python(self, script: str, *arguments: str) -> str:
        """Run a script in the project's environment, in the workspace; its output."""
        quiet = {"ORT_DISABLE_TELEMETRY": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
        return self.run(".venv/bin/python", "-c", script, *arguments, **quiet).stdout


def _copy_checkout(folder: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target, follow_symlinks=False)


def readme_commands() -> list[str]:
    """The commands of README's first block, as a person copies them."""
    block = re.search(r"```(?:sh|bash)\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert block, "README has no block of commands"
    return [line.split("#")[0].strip() for line in block[1].splitlines() if line.strip()]


@pytest.fixture(scope="session")
def new_workspace() -> type[Workspace]:
    """Makes workspaces: `new_workspace(folder)`."""
    return Workspace


@pytest.fixture(scope="session")
def finished(make_once: MakeOnce) -> Workspace:
    """The workspace in which README's pipeline command has run, from nothing; tests of the group `pipeline` use it."""

    def fill(folder: Path) -> None:
        workspace = Workspace(folder / "fusmae")
        command = next(line for line in readme_commands() if "pipeline" in line)
        before = _shared_folders()
        printed = workspace.run(*command.split()).stdout
        (folder / "printed.txt").write_text(printed, encoding="utf-8")
        left = sorted(map(str, _shared_folders() - before))
        (folder / "left_outside.json").write_text(json.dumps(left), encoding="utf-8")
        shutil.copytree(workspace.folder, folder / "untouched", symlinks=True)

    folder = make_once("finished", fill)
    workspace = Workspace(folder / "fusmae")
    workspace.printed = (folder / "printed.txt").read_text(encoding="utf-8")
    workspace.left_outside = json.loads((folder / "left_outside.json").read_text(encoding="utf-8"))
    return workspace


@pytest.fixture(scope="session")
def untouched(finished: Workspace) -> Path:
    """The same workspace's folder as it was when the command had ended; to be read and copied by tests of any group."""
    return finished.folder.with_name("untouched")


@pytest.fixture(scope="session")
def examined(make_once: MakeOnce) -> Path:
    """Folder of a workspace in which the stages up to the examination have run; to be copied, never changed."""

    def fill(folder: Path) -> None:
        Workspace(folder / "fusmae").run(".venv/bin/dvc", "repro", "examine")

    return make_once("examined", fill) / "fusmae"


def _shared_folders() -> set[Path]:
    """What tools keep for every project of a machine."""
    return set(Path("/var/tmp").glob("*/*/*"))
