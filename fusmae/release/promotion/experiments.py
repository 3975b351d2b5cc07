"""Finds DVC experiments by their name or output, and commits their parameters and results, as promotion requires."""

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from fusmae.errors import PromotionError
from fusmae.runs.dvc_lock import read_lock
from fusmae.runs.git import git
from fusmae.runs.process_group import own_programs_first, run_in_group
from fusmae.runs.provenance import CODE_FOLDERS, dotted

WORKSPACE = "workspace"
"""The checkout itself, as `dvc exp show` calls it."""
PARAMS, LOCK = "params.yaml", "dvc.lock"
OF_A_RUN = {PARAMS, LOCK}
"""Files that a run of `dvc repro` or `dvc exp run` may change."""
KEEP_CHANGES = "`git diff HEAD` shows them; `git commit` or `git stash` them, then the same command again"
"""Advice where files have uncommitted changes."""
_DVC = str(Path(sys.executable).with_name("dvc"))
_REF = re.compile(r"(?P<rev>\S+) refs/exps/(?P<start>[0-9a-f]{2})/(?P<rest>[0-9a-f]{38,})/(?P<name>[^/]+)")
_NUM_SHOWN = 8
_NO_NAME = (
    "git has no name and e-mail address for the commit.",
    'git config user.name "Your Name" && git config user.email you@example.org',
)
# What is wrong and what helps where one of these commands of git fails: there, an experiment can't be committed.
_GIT_NEEDS = {
    "rev-parse --verify --quiet HEAD": (
        "There is no git checkout with a commit here.",
        "cd into a clone of the project",
    ),
    "symbolic-ref --quiet HEAD": ("The checkout is on no branch: git would lose the commit.", "git switch -c NAME"),
    "var GIT_AUTHOR_IDENT": _NO_NAME,
    "var GIT_COMMITTER_IDENT": _NO_NAME,
}


@dataclass(frozen=True)
class Experiment:
    """An experiment that `dvc exp run` or a flow run stored, by the name that `dvc exp show` lists.

    `rev` is the hash of the git commit that holds its files, `baseline` that of the commit on which it was run.
    """

    name: str
    rev: str
    baseline: str


def experiments() -> list[Experiment]:
    """All experiments of this clone."""
    listed = git("for-each-ref", "--format=%(objectname) %(refname)", "refs/exps/").stdout.splitlines()
    found = filter(None, map(_REF.fullmatch, listed))
    return [Experiment(item["name"], item["rev"], item["start"] + item["rest"]) for item in found]


def experiment_that_made(md5: str) -> Experiment | None:
    """The experiment whose dvc.lock contains an output with this hash; None if there is none."""
    return next((item for item in experiments() if md5 in _text(item.rev, LOCK)), None)


def commit_that_has(md5: str) -> str | None:
    """The newest commit of a branch or tag whose dvc.lock contains an output with this hash; None if there is none."""
    listed = git("log", "--format=%H", "--branches", "--tags", "--remotes", "HEAD", f"-S{md5}", "--", LOCK)
    return next((commit for commit in listed.stdout.split() if md5 in _text(commit, LOCK)), None)


def uncommitted() -> list[str]:
    """Paths, from the project's folder, of changed files that git tracks, and of new files in folders of code."""
    added = git("ls-files", "--others", "--exclude-standard", "--", *CODE_FOLDERS).stdout.splitlines()
    return sorted({*_changed("HEAD"), *added})


def _changed(*commits: str, paths: Iterable[str] = (".",)) -> list[str]:
    """Files that differ between two commits, or between one and the checkout."""
    return git("diff", "--name-only", "--relative", *commits, "--", *paths).stdout.splitlines()


def shown(names: Sequence[str]) -> str:
    """The first few names, and the number of the others, as text."""
    more = f" and {len(names) - _NUM_SHOWN} more" if len(names) > _NUM_SHOWN else ""
    return f"{', '.join(names[:_NUM_SHOWN])}{more}"


def commit_experiment(name: str, model: str, stage: str) -> None:
    """Commit parameters and results of an experiment, or of the `workspace`, and bring up to date what `stage` needs.

    Its results come from the cache or the remote; only missing ones are computed. A refused experiment changes nothing.

    Raises:
        PromotionError: no such experiment, it would undo or include other changes, git refuses, or a stage fails.
    """
    _require_git()
    if others := sorted({*uncommitted()} - OF_A_RUN):
        raise PromotionError(
            f"Changes that don't belong to an experiment would stay out of the commit: {shown(others)}.",
            expected=f"no uncommitted changes but those of {PARAMS} and {LOCK}",
            hint=KEEP_CHANGES,
        )
    again = f"fusmae promote {model} --experiment {name}"
    if name == WORKSPACE:
        _commit("Keep the parameters and results of the workspace")
    else:
        found = _found(name)
        _require_fit(found, model)
        texts = {path: _text(found.rev, path) for path in (PARAMS, LOCK)}
        _commit(f"Keep the parameters and results of experiment {name}", texts)
        _dvc(["checkout", "--quiet", "--allow-missing"], again)
    has_remote = not subprocess.run([_DVC, "remote", "default"], capture_output=True, check=False).returncode
    _dvc(["repro", *(["--pull"] if has_remote else []), stage], f"fusmae promote {model} --experiment {WORKSPACE}")
    _commit("Lock the results")


def _found(name: str) -> Experiment:
    head = git("rev-parse", "HEAD").stdout.strip()
    named = [item for item in experiments() if item.name == name]
    here = [item for item in named if item.baseline == head] or named
    if len(here) == 1:
        return here[0]
    raise PromotionError(
        f"There {'are several experiments' if here else 'is no experiment'} {name!r} in this clone.",
        got=", ".join(f"{item.name} on {item.baseline[:12]}" for item in here) or None,
        expected=shown([WORKSPACE, *sorted({item.name for item in experiments()})]),
        hint="`git switch` to the commit that it was run on"
        if here
        else f"`dvc exp show` lists them; `dvc exp pull origin {name}` brings one from elsewhere",
    )


def _require_git() -> None:
    """Refuse to commit where git would not, or would lose the commit."""
    for command, (problem, hint) in _GIT_NEEDS.items():
        if git(*command.split()).returncode:
            got = f"`git {command}` fails in {Path.cwd()}"
            raise PromotionError(problem, got=got, hint=f"{hint}, then the same command again")


def _require_fit(found: Experiment, model: str) -> None:
    """Refuse an experiment with other changes than a run's, with other code, or that would overwrite changes."""
    name, branch = found.name, f"{found.name}-branch"
    if others := sorted({*_changed(found.baseline, found.rev)} - OF_A_RUN):
        raise PromotionError(
            f"Experiment {name} was run with other changes than those of {PARAMS}: {shown(others)}.",
            expected="changes that were reviewed and committed",
            hint=f"dvc exp branch {name} {branch} && git switch {branch} && dvc checkout, look at them, "
            f"then fusmae promote {model} --experiment {WORKSPACE}",
        )
    code = {path for stage in read_lock(_text(found.rev, LOCK)).values() for path in stage.code}
    if code and (since := _changed(found.baseline, "HEAD", paths=code)):
        raise PromotionError(
            f"The code has changed since experiment {name} was run: all of its stages would run again.",
            got=shown(since),
            expected=f"the code of commit {found.baseline[:12]}",
            hint=f"git switch -c {branch} {found.baseline[:12]}, then the same command again",
        )
    dirty = uncommitted()
    kept = any(all(_text(item.rev, path) == _now(path) for path in (PARAMS, LOCK)) for item in experiments())
    if dirty and not kept:
        raise PromotionError(
            f"{shown(dirty)} would be overwritten by experiment {name}.",
            got="changes that no experiment and no commit has",
            hint=f"`dvc exp save` keeps them, `git checkout {PARAMS} {LOCK}` gives them up; then this again",
        )


def _commit(subject: str, texts: Mapping[str, str] | None = None) -> None:
    """Write `texts` and commit both files if they differ from the last commit; a failure restores them as before."""
    before = {path: Path(path).read_bytes() for path in (PARAMS, LOCK) if Path(path).exists()}
    for path, text in (texts or {}).items():
        Path(path).write_text(text, encoding="utf-8")
    paths = [path for path in (PARAMS, LOCK) if Path(path).exists()]
    git("add", "--intent-to-add", "--", *paths)  # a clone may have no dvc.lock yet
    if not git("diff", "--quiet", "HEAD", "--", *paths).returncode:
        return
    done = git("commit", "--quiet", "--message", f"{subject}\n\n{_changes()}".strip(), "--only", "--", *paths)
    if done.returncode:
        for path, content in before.items():
            Path(path).write_bytes(content)
        raise PromotionError(
            "git makes no commit; the files are as they were.",
            got=(done.stderr or done.stdout).strip(),
            hint="correct what git reports, then run the same command again",
        )
    sys.stderr.write(f"committed {git('rev-parse', '--short', 'HEAD').stdout.strip()}: {subject}\n")


def _changes() -> str:
    """The commit's changes in params.yaml, one line per value."""
    before, now = (dotted(yaml.safe_load(text) or {}) for text in (_text("HEAD", PARAMS), _now(PARAMS)))
    changed = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    return "\n".join(f"{key}: {before.get(key)} -> {now.get(key)}" for key in changed)


def _text(commit: str, path: str) -> str:
    """Text of a file in a commit; "" if the commit does not have the file."""
    return git("show", f"{commit}:./{path}").stdout


def _now(path: str) -> str:
    return Path(path).read_text(encoding="utf-8") if Path(path).exists() else ""


def _dvc(arguments: Sequence[str], again: str) -> None:
    """Run DVC; its output goes to standard error, since standard output is for the command's result."""
    environment = {**os.environ, "PATH": own_programs_first()}
    if code := run_in_group([_DVC, *arguments], environment=environment, stdout=sys.stderr):
        raise PromotionError(
            f"`dvc {' '.join(arguments)}` ended with exit code {code}; the parameters are committed, "
            "but no version was judged.",
            got="the output above",
            hint=f"correct the cause, then {again}",
        )
