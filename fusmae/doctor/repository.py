"""Whether this is a DVC project whose dvc.lock belongs to its dvc.yaml."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fusmae.doctor.finding import Finding, described
from fusmae.runs.dvc_lock import read_lock

_LOCK = Path("dvc.lock")
_NUM_SHOWN = 3
# DVC inserts a checkout's path unescaped into an address, where these characters have a meaning, and into a file in
# ASCII. With a % in the path, a temporary checkout runs, but its experiment is lost.
_MEANT_OTHERWISE = {"#", "?", "%"}


def open_project() -> Any:
    """The DVC project that this folder is in; None where it can't be opened, which `check_project` reports."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        return Repo()
    except DvcException:
        return None


def check_project() -> Iterator[Finding]:
    """Check that this folder is the root of a DVC project whose graph can be read."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        project = Repo()
    except DvcException as error:
        expected = "the project's folder, with .dvc/ and .git/ in it"
        yield Finding("dvc project", "error", described(error), expected, "cd into the project's folder, or dvc init")
        return
    root = Path(project.root_dir)
    if root != Path.cwd():
        yield Finding("dvc project", "error", f"its root is {root}", "to be run in the root", f"cd {root}")
        return
    try:
        stages = list(project.index.stages)
    except DvcException as error:
        mend = "git diff dvc.yaml dvc.lock   # then mend it, or: git checkout dvc.yaml dvc.lock"
        yield Finding("dvc project", "error", described(error), "a dvc.yaml and dvc.lock that DVC can read", mend)
        return
    if str(root).isascii() and not _MEANT_OTHERWISE & set(str(root)):
        yield Finding("dvc project", "ok", f"{root}, {len(stages)} stages")
    else:
        found = f"{root}: here DVC itself fails in `dvc exp run --temp` and `--queue`; all else works"
        yield Finding(
            "dvc project",
            "warning",
            found,
            "a path in ASCII without #, ? and %",
            "move it; then rm -r .venv && make check",
        )
    yield from _check_lock(stages)


def _check_lock(stages: Sequence[Any]) -> Iterator[Finding]:
    """Compare dvc.lock with dvc.yaml and params.yaml, as DVC does; `dvc status` shows whether files changed."""
    if not _LOCK.exists():
        yield Finding("dvc.lock", "warning", "not there: no stage has run", "the hashes of a run", "dvc repro")
        return
    locked = read_lock(_LOCK.read_text(encoding="utf-8"))
    gone = sorted(set(locked) - {stage.addressing for stage in stages})
    if gone:
        found = f"has {', '.join(gone)}, which dvc.yaml does not have"
        # Stages whose results are in the cache are not run again.
        yield Finding("dvc.lock", "error", found, "stages of dvc.yaml only", "rm dvc.lock && dvc repro")
    run = [stage for stage in stages if stage.addressing in locked]
    parts = [
        _listed("not run yet", [stage for stage in stages if stage.addressing not in locked]),
        _listed("changed in dvc.yaml since they ran", list(filter(_has_other_entry, run))),
        _listed("changed in params.yaml since they ran", list(filter(_has_other_params, run))),
    ]
    if found := "; ".join(filter(None, parts)):
        yield Finding("dvc.lock", "warning", found, "a run of dvc.yaml and params.yaml as they are", "dvc repro")
    elif not gone:
        found = f"all {len(stages)} stages as in dvc.yaml and params.yaml (`dvc status` compares files)"
        yield Finding("dvc.lock", "ok", found)


def _has_other_entry(stage: Any) -> bool:
    """Whether the command has changed or a path is new: DVC reads the hash of each known path from the lock."""
    from dvc.dependency import ParamsDependency

    paths = (item for item in (*stage.deps, *stage.outs) if not isinstance(item, ParamsDependency))
    return stage.changed_stage() or not all(item.hash_info for item in paths)


def _has_other_params(stage: Any) -> bool:
    from dvc.dependency import ParamsDependency

    return any(item.status() for item in stage.deps if isinstance(item, ParamsDependency))


def _listed(what: str, stages: Sequence[Any]) -> str:
    names = [stage.addressing for stage in stages]
    rest = f" and {len(names) - _NUM_SHOWN} more" if len(names) > _NUM_SHOWN else ""
    return f"{what}: {', '.join(names[:_NUM_SHOWN])}{rest}" if names else ""
