"""Whether the folder is a git checkout whose commit identifies the code, and whether params.yaml is valid."""

from collections.abc import Iterator
from pathlib import Path

from fusmae.config.params import Config, load_config
from fusmae.doctor.finding import Finding
from fusmae.errors import ConfigError
from fusmae.runs.git import git
from fusmae.runs.provenance import git_state

_PATIENCE_S = 5
_GRAPH = "dvc.yaml"


def check_git() -> Iterator[Finding]:
    """Check for a checkout with a commit of this folder, no changes since, and the whole history."""
    try:
        code, printed = _git("rev-parse", "--is-inside-work-tree")
    except FileNotFoundError:
        yield Finding("git", "error", "git is not installed", "git on PATH", "apt-get install git")
        return
    expected = "a git checkout: DVC and promotion need one"
    if code:
        is_refused = "dubious ownership" in printed
        mend = 'git config --global --add safe.directory "$PWD"' if is_refused else _start()
        yield Finding("git", "error", printed.splitlines()[0], expected, mend)
        return
    if Path(_GRAPH).exists() and not _git("ls-files", "--", _GRAPH)[1]:
        # Unpacked inside another project's repository: git would report that repository's commit for this project.
        found = f"{_git('rev-parse', '--show-toplevel')[1]} is a git repository that does not have {_GRAPH} of here"
        yield Finding("git", "error", found, expected, _start())
        return
    code, commit = _git("rev-parse", "--short", "HEAD")
    if code:
        yield Finding("git", "warning", "no commit so far", "a commit that names the code", _start())
    elif git_state()["is_dirty"]:
        _, changed = _git("status", "--short", "--untracked-files=all")
        found = f"{commit} and changes that it does not have: {changed.splitlines()[0].strip()}, …"
        expected = "nothing uncommitted: promote and reproduce go by the commit"
        yield Finding("git", "warning", found, expected, "git add --all && git commit")
    elif locks := _git("diff", "--name-only", "--relative", "HEAD", "--", ":(glob)**/dvc.lock")[1].split():
        # Stages write it while they run: it is a result to be kept, not a fault.
        keep = f'git commit -m "Lock the results" {" ".join(locks)}'
        yield Finding("git", "ok", f"{commit}; {' and '.join(locks)} not committed, before a promotion: {keep}")
    else:
        yield Finding("git", "ok", f"{commit}, nothing uncommitted")
    if _git("rev-parse", "--is-shallow-repository")[1] == "true":
        expected = "the whole history: reproduce checks old commits out"
        yield Finding("git history", "warning", "a shallow clone", expected, "git fetch --unshallow")


def check_params(path: Path) -> Iterator[Finding]:
    """Check params.yaml by the types that the stages use."""
    try:
        load_config(path)
    except ConfigError as error:
        mend = f"git diff {path}   # then mend it, or: git checkout {path}"
        yield Finding(
            "params", "error", " ".join(str(error).split()), "values that fusmae/config/params.py allows", mend
        )
    else:
        yield Finding("params", "ok", f"{path} is valid")


def config_or_none(path: Path) -> Config | None:
    """The configuration for checks that depend on it; None where params.yaml is wrong, which `check_params` reports."""
    try:
        return load_config(path)
    except ConfigError:
        return None


def _start() -> str:
    """Commands that make this folder a checkout with a commit; they set git's user name and e-mail if absent."""
    is_known = _git("var", "GIT_COMMITTER_IDENT")[0] == 0
    name = [] if is_known else ['git config user.name "$(id -un)"', 'git config user.email "$(id -un)@localhost"']
    return " && ".join(["git init", *name, "git add --all", 'git commit -m "As unpacked"'])


def _git(*arguments: str) -> tuple[int, str]:
    done = git(*arguments, timeout_s=_PATIENCE_S)
    return done.returncode, (done.stdout or done.stderr).strip()
