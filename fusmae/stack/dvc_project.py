"""Whether this is a DVC project whose dvc.lock belongs to its dvc.yaml."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from fusmae.stack.finding import Finding, described

_LOCK = Path("dvc.lock")
_NUM_SHOWN = 3


def open_project() -> Any:
    """The DVC project that this folder is in; None where it can't be opened, which `check_project` says."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        return Repo()
    except DvcException:
        return None


def check_project() -> Iterator[Finding]:
    """A DVC project, this folder being its root, with a graph that can be read."""
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
    yield Finding("dvc project", "ok", f"{root}, {len(stages)} stages")
    yield from _check_lock({stage.addressing: _facts(stage) for stage in stages})


def _facts(stage: Any) -> tuple[str, set[str], set[str]]:
    return stage.cmd, {item.def_path for item in stage.deps}, {item.def_path for item in stage.outs}


def _check_lock(stages: dict[str, tuple[str, set[str], set[str]]]) -> Iterator[Finding]:
    """dvc.lock against dvc.yaml, by names, commands and paths; whether contents changed is `dvc status`'s to say."""
    if not _LOCK.exists():
        yield Finding("dvc.lock", "warning", "not there: no stage has run", "the hashes of a run", "dvc repro")
        return
    locked = (yaml.safe_load(_LOCK.read_text(encoding="utf-8")) or {}).get("stages") or {}
    gone = sorted(set(locked) - set(stages))
    if gone:
        found = f"has {', '.join(gone)}, which dvc.yaml does not have"
        # What is in the cache is not run again.
        yield Finding("dvc.lock", "error", found, "stages of dvc.yaml only", "rm dvc.lock && dvc repro")
    new = [name for name in stages if name not in locked]
    changed = [name for name in stages if name in locked and stages[name] != _locked_facts(locked[name])]
    if new or changed:
        parts = [_listed(new, "not run yet"), _listed(changed, "changed in dvc.yaml since they ran")]
        found = "; ".join(filter(None, parts))
        yield Finding("dvc.lock", "warning", found, "a run of dvc.yaml as it is", "dvc repro")
    elif not gone:
        yield Finding("dvc.lock", "ok", f"all {len(stages)} stages as in dvc.yaml (`dvc status` compares contents)")


def _listed(names: Sequence[str], what: str) -> str:
    rest = f" and {len(names) - _NUM_SHOWN} more" if len(names) > _NUM_SHOWN else ""
    return f"{what}: {', '.join(names[:_NUM_SHOWN])}{rest}" if names else ""


def _locked_facts(entry: dict[str, Any]) -> tuple[str, set[str], set[str]]:
    deps, outs = ({item["path"] for item in entry.get(kind, [])} for kind in ("deps", "outs"))
    return entry["cmd"], deps, outs
