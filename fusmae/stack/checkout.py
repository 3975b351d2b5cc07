"""Whether the folder is a git checkout that names what it runs, and whether params.yaml is right."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

from fusmae.config import Config, load_config
from fusmae.errors import ConfigError
from fusmae.provenance import git_state
from fusmae.stack.finding import Finding

_PATIENCE_S = 5


def check_git() -> Iterator[Finding]:
    """A checkout with a commit, with no change since, with its whole history."""
    try:
        code, printed = _git("rev-parse", "--is-inside-work-tree")
    except FileNotFoundError:
        yield Finding("git", "error", "git is not installed", "git on PATH", "apt-get install git")
        return
    if code:
        is_refused = "dubious ownership" in printed
        mend = 'git config --global --add safe.directory "$PWD"' if is_refused else "git init && git add --all"
        yield Finding("git", "error", printed.splitlines()[0], "a git checkout: DVC and promotion need one", mend)
        return
    code, commit = _git("rev-parse", "--short", "HEAD")
    if code:
        yield Finding("git", "warning", "no commit so far", "a commit that names the code", 'git commit -m "Start"')
    elif git_state()["is_dirty"]:
        _, changed = _git("status", "--short", "--untracked-files=all")
        found = f"{commit} and changes that it does not have: {changed.splitlines()[0].strip()}, …"
        expected = "nothing uncommitted: promote and reproduce go by the commit"
        yield Finding("git", "warning", found, expected, "git add --all && git commit")
    else:
        yield Finding("git", "ok", f"{commit}, nothing uncommitted")
    if _git("rev-parse", "--is-shallow-repository")[1] == "true":
        expected = "the whole history: reproduce checks old commits out"
        yield Finding("git history", "warning", "a shallow clone", expected, "git fetch --unshallow")


def check_params(path: Path) -> Iterator[Finding]:
    """params.yaml, by the types that the stages use."""
    try:
        load_config(path)
    except ConfigError as error:
        mend = f"git diff {path}   # then mend it, or: git checkout {path}"
        yield Finding("params", "error", " ".join(str(error).split()), "values that fusmae/config.py allows", mend)
    else:
        yield Finding("params", "ok", f"{path} is valid")


def config_or_none(path: Path) -> Config | None:
    """params.yaml for checks that depend on it; None where it is wrong, which `check_params` says."""
    try:
        return load_config(path)
    except ConfigError:
        return None


def _git(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        ["git", *arguments],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
        timeout=_PATIENCE_S,
    )
    return done.returncode, (done.stdout or done.stderr).strip()
