"""Whether this is a DVC project in a git checkout: its commit, parameters, graph, dvc.lock and locks."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fusmae.config.params import Config, load_config
from fusmae.doctor.finding import Finding, described
from fusmae.errors import ConfigError
from fusmae.runs.dvc_lock import read_lock
from fusmae.runs.git import git
from fusmae.runs.provenance import git_state

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


_EXPECTED = "no lock, unless DVC works here or on another machine that shares this folder"


def check_locks() -> Iterator[Finding]:
    """Check the repository's lock, and the paths that the file rwlock lists as in use."""
    project = open_project()
    if project is None:
        yield Finding("dvc locks", "skipped", "no DVC project")
        return
    folder, root = Path(project.tmp_dir), Path(project.root_dir)
    is_by_file = project.config["core"].get("hardlink_lock", False)
    for name in ("lock", "rwlock.lock"):
        path = folder / name
        if path.exists():
            yield _check_file(path, root) if is_by_file else _check_held(path)
    yield from _check_rwlock(folder / "rwlock")


def _check_held(path: Path) -> Finding:
    """Check a lock of the kernel, which ends with its process; the file alone stays and does not mean a lock."""
    import fcntl

    import psutil

    with path.open(encoding="utf-8") as file:
        pid = _number(file.read())
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if pid and psutil.pid_exists(pid):
                return Finding(f"dvc {path.name}", "ok", f"held by process {pid}, which runs")
            found = f"held, though process {pid or '?'} has ended: a child of it lives"
            return Finding(f"dvc {path.name}", "error", found, _EXPECTED, f"fuser -v {path}   # then end that process")
    return Finding(f"dvc {path.name}", "ok", "free")


def _check_file(path: Path, root: Path) -> Finding:
    """Check a lock with `core.hardlink_lock`: the file itself is the lock, and stays when its process is killed."""
    running = _dvc_processes(root)
    if running:
        return Finding(f"dvc {path.name}", "ok", f"held; process {running[0]} runs")
    found = f"{path} is there, and no DVC runs here: each command will wait for it"
    return Finding(f"dvc {path.name}", "error", found, _EXPECTED, f"rm {path}")


def _check_rwlock(path: Path) -> Iterator[Finding]:
    if not path.exists():
        yield Finding("dvc rwlock", "ok", "no path is in use")
        return
    try:
        users = _users(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError):
        found = f"{path} is damaged: a process was killed as it wrote"
        yield Finding("dvc rwlock", "error", found, _EXPECTED, f"rm {path}")
        return
    written_at = path.stat().st_mtime
    dead = {pid: used for pid, used in users.items() if not _lives(pid, written_at)}
    if dead:
        (pid, used), *_ = dead.items()
        found = f"{used} is in use by process {pid}, which has ended"
        yield Finding("dvc rwlock", "warning", found, _EXPECTED, f"rm {path}")
    elif users:
        yield Finding("dvc rwlock", "ok", f"paths in use by process {', '.join(map(str, users))}, which runs")
    else:
        yield Finding("dvc rwlock", "ok", "no path is in use")


def _users(content: dict[str, Any]) -> dict[int, str]:
    """One path in use per process, by process id; a path has one writer or several readers."""
    users: dict[int, str] = {}
    for path, entry in [*content.get("write", {}).items(), *content.get("read", {}).items()]:
        for user in entry if isinstance(entry, list) else [entry]:
            users[int(user["pid"])] = path
    return users


def _lives(pid: int, written_at: float) -> bool:
    """Whether the process that wrote its id is running; a process that started later only has the same id."""
    import psutil

    try:
        started_at: float = psutil.Process(pid).create_time()
    except psutil.Error:
        return False
    return started_at <= written_at + 1


def _dvc_processes(root: Path) -> list[int]:
    import psutil

    found = []
    for process in psutil.process_iter(["pid", "cmdline", "cwd"]):
        words = process.info["cmdline"] or []
        is_dvc = any(Path(word).name == "dvc" for word in words[:3])
        if is_dvc and process.info["cwd"] and Path(process.info["cwd"]).is_relative_to(root):
            found.append(process.info["pid"])
    return found


def _number(text: str) -> int | None:
    return int(text) if text.strip().isdigit() else None
