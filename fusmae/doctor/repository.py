"""Whether this is a DVC project in a git checkout: commit, parameters, graph, dvc.lock, locks, cache and remote."""

import json
import socket
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fusmae.config.params import load_config
from fusmae.doctor.finding import Finding, described, judged, listed
from fusmae.errors import ConfigError
from fusmae.runs.dvc_lock import read_lock
from fusmae.runs.git import git
from fusmae.runs.provenance import git_state

_LOCK, _GRAPH = Path("dvc.lock"), Path("dvc.yaml")
_GIT_PATIENCE_S, _CONNECT_S = 5, 3.0
_NO_LOCK = "no lock, unless DVC works here or on another machine that shares this folder"
# DVC inserts a checkout's path unescaped into an address, where these characters have a meaning, and into a file in
# ASCII. With a % in the path, a temporary checkout runs, but its experiment is lost.
_MEANT_OTHERWISE = {"#", "?", "%"}
_GB = 1e9
_TWICE_GB = 5
_PORTS = {"http": 80, "https": 443, "ssh": 22, "webdav": 80, "webdavs": 443}
_LINKS = ["reflink", "hardlink", "symlink"]
_RELINK = "dvc config --local cache.type reflink,hardlink,symlink,copy && dvc checkout --relink"


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

    expected, mend = "the project's folder, with .dvc/ and .git/ in it", "cd into the project's folder, or dvc init"
    try:
        project = Repo()
        root = Path(project.root_dir)
        if root != Path.cwd():
            yield Finding("dvc project", "error", f"its root is {root}", "to be run in the root", f"cd {root}")
            return
        expected = "a dvc.yaml and dvc.lock that DVC can read"
        mend = "git diff dvc.yaml dvc.lock   # then mend it, or: git checkout dvc.yaml dvc.lock"
        stages = list(project.index.stages)
    except DvcException as error:
        yield Finding("dvc project", "error", described(error), expected, mend)
        return
    is_plain = str(root).isascii() and not _MEANT_OTHERWISE & set(str(root))
    found, expected = f"{root}, {len(stages)} stages", "a path in ASCII without #, ? and %"
    if not is_plain:
        found = f"{root}: here DVC itself fails in `dvc exp run --temp` and `--queue`; all else works"
    yield judged(is_plain, "dvc project", "warning", found, expected, "move it; then rm -r .venv && make check")
    yield from _check_lock(stages)


def _check_lock(stages: Sequence[Any]) -> Iterator[Finding]:
    """Compare dvc.lock with dvc.yaml and params.yaml, as DVC does; `dvc status` shows whether files changed."""
    from dvc.dependency import ParamsDependency

    if not _LOCK.exists():
        yield Finding("dvc.lock", "warning", "not there: no stage has run", "the hashes of a run", "dvc repro")
        return
    locked = read_lock(_LOCK.read_text(encoding="utf-8"))
    gone = sorted(set(locked) - {stage.addressing for stage in stages})
    if gone:
        found = f"has {', '.join(gone)}, which dvc.yaml does not have"
        # Stages whose results are in the cache are not run again.
        yield Finding("dvc.lock", "error", found, "stages of dvc.yaml only", "rm dvc.lock && dvc repro")
    changed: dict[str, list[str]] = defaultdict(list)
    for stage in stages:
        if stage.addressing not in locked:
            changed["not run yet"].append(stage.addressing)
            continue
        params = [item for item in stage.deps if isinstance(item, ParamsDependency)]
        paths = [item for item in (*stage.deps, *stage.outs) if not isinstance(item, ParamsDependency)]
        # DVC reads the hash of each known path from the lock: one without a hash is new.
        if stage.changed_stage() or not all(item.hash_info for item in paths):
            changed["changed in dvc.yaml since they ran"].append(stage.addressing)
        if any(item.status() for item in params):
            changed["changed in params.yaml since they ran"].append(stage.addressing)
    if changed:
        found = "; ".join(f"{what}: {listed(names)}" for what, names in changed.items())
        yield Finding("dvc.lock", "warning", found, "a run of dvc.yaml and params.yaml as they are", "dvc repro")
    elif not gone:
        found = f"all {len(stages)} stages as in dvc.yaml and params.yaml (`dvc status` compares files)"
        yield Finding("dvc.lock", "ok", found)


def check_git() -> Iterator[Finding]:
    """Check for a checkout with a commit of this folder, no changes since, and the whole history."""
    checkout = _checkout()
    yield checkout
    if checkout.status != "error" and _git("rev-parse", "--is-shallow-repository")[1] == "true":
        expected = "the whole history: reproduce checks old commits out"
        yield Finding("git history", "warning", "a shallow clone", expected, "git fetch --unshallow")


def _checkout() -> Finding:
    try:
        code, printed = _git("rev-parse", "--is-inside-work-tree")
    except FileNotFoundError:
        return Finding("git", "error", "git is not installed", "git on PATH", "apt-get install git")
    expected = "a git checkout: DVC and promotion need one"
    if code:
        is_refused = "dubious ownership" in printed
        mend = 'git config --global --add safe.directory "$PWD"' if is_refused else _start()
        return Finding("git", "error", printed.splitlines()[0], expected, mend)
    if _GRAPH.exists() and not _git("ls-files", "--", str(_GRAPH))[1]:
        # Unpacked inside another project's repository: git would report that repository's commit for this project.
        found = f"{_git('rev-parse', '--show-toplevel')[1]} is a git repository that does not have {_GRAPH} of here"
        return Finding("git", "error", found, expected, _start())
    code, commit = _git("rev-parse", "--short", "HEAD")
    if code:
        return Finding("git", "warning", "no commit so far", "a commit that names the code", _start())
    if git_state()["is_dirty"]:
        changed = _git("status", "--short", "--untracked-files=all")[1].splitlines()[0].strip()
        expected = "nothing uncommitted: promote and reproduce go by the commit"
        mend = "git add --all && git commit"
        return Finding("git", "warning", f"{commit} and changes that it does not have: {changed}, …", expected, mend)
    if locks := _git("diff", "--name-only", "--relative", "HEAD", "--", ":(glob)**/dvc.lock")[1].split():
        # Stages write it while they run: it is a result to be kept, not a fault.
        keep = f'git commit -m "Lock the results" {" ".join(locks)}'
        return Finding("git", "ok", f"{commit}; {' and '.join(locks)} not committed, before a promotion: {keep}")
    return Finding("git", "ok", f"{commit}, nothing uncommitted")


def _start() -> str:
    """Commands that make this folder a checkout with a commit; they set git's user name and e-mail if absent."""
    is_known = _git("var", "GIT_COMMITTER_IDENT")[0] == 0
    name = [] if is_known else ['git config user.name "$(id -un)"', 'git config user.email "$(id -un)@localhost"']
    return " && ".join(["git init", *name, "git add --all", 'git commit -m "As unpacked"'])


def _git(*arguments: str) -> tuple[int, str]:
    done = git(*arguments, timeout_s=_GIT_PATIENCE_S)
    return done.returncode, (done.stdout or done.stderr).strip()


def check_params(path: Path) -> Iterator[Finding]:
    """Check params.yaml by the types that the stages use."""
    try:
        load_config(path)
    except ConfigError as error:
        found, mend = " ".join(str(error).split()), f"git diff {path}   # then mend it, or: git checkout {path}"
        yield Finding("params", "error", found, "values that fusmae/config allows", mend)
    else:
        yield Finding("params", "ok", f"{path} is valid")


def check_locks() -> Iterator[Finding]:
    """Check the repository's lock, and the paths that the file rwlock lists as in use."""
    project = open_project()
    if project is None:
        yield Finding("dvc locks", "skipped", "no DVC project")
        return
    folder = Path(project.tmp_dir)
    for path in filter(Path.exists, (folder / "lock", folder / "rwlock.lock")):
        if project.config["core"].get("hardlink_lock", False):
            # The file itself is the lock, and stays when its process is killed.
            running = _dvc_process(Path(project.root_dir))
            alone = f"{path} is there, and no DVC runs here: each command will wait for it"
            found = f"held; process {running} runs" if running else alone
            yield judged(bool(running), f"dvc {path.name}", "error", found, _NO_LOCK, f"rm {path}")
        else:
            yield _check_held(path)
    yield _check_rwlock(folder / "rwlock")


def _check_held(path: Path) -> Finding:
    """Check a lock of the kernel, which ends with its process; the file alone stays and does not mean a lock."""
    import fcntl

    import psutil

    with path.open(encoding="utf-8") as file:
        pid = file.read().strip()
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if pid.isdigit() and psutil.pid_exists(int(pid)):
                return Finding(f"dvc {path.name}", "ok", f"held by process {pid}, which runs")
            found = f"held, though process {pid or '?'} has ended: a child of it lives"
            return Finding(f"dvc {path.name}", "error", found, _NO_LOCK, f"fuser -v {path}   # then end that process")
    return Finding(f"dvc {path.name}", "ok", "free")


def _check_rwlock(path: Path) -> Finding:
    if not path.exists():
        return Finding("dvc rwlock", "ok", "no path is in use")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        # A path has one writer or several readers; one path per process is enough.
        users = {
            int(user["pid"]): used
            for used, entry in [*content.get("write", {}).items(), *content.get("read", {}).items()]
            for user in (entry if isinstance(entry, list) else [entry])
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        found = f"{path} is damaged: a process was killed as it wrote"
        return Finding("dvc rwlock", "error", found, _NO_LOCK, f"rm {path}")
    written_at = path.stat().st_mtime
    for pid, used in users.items():
        if not _lives(pid, written_at):
            found = f"{used} is in use by process {pid}, which has ended"
            return Finding("dvc rwlock", "warning", found, _NO_LOCK, f"rm {path}")
    pids = ", ".join(map(str, users))
    return Finding("dvc rwlock", "ok", f"paths in use by process {pids}, which runs" if pids else "no path is in use")


def _lives(pid: int, written_at: float) -> bool:
    """Whether the process that wrote its id is running; a process that started later only has the same id."""
    import psutil

    try:
        return bool(psutil.Process(pid).create_time() <= written_at + 1)
    except psutil.Error:
        return False


def _dvc_process(root: Path) -> int | None:
    """Id of a process of DVC that works in the project."""
    import psutil

    for process in psutil.process_iter(["cmdline", "cwd"]):
        command, folder = process.info["cmdline"] or [], Path(process.info["cwd"] or "/")
        if "dvc" in (Path(word).name for word in command[:3]) and folder.is_relative_to(root):
            return process.pid
    return None


def check_cache() -> Iterator[Finding]:
    """Check that the cache is writable, and by which kind of link its files appear in the workspace."""
    from dvc.fs import localfs
    from dvc_objects.fs.generic import test_links

    project = open_project()
    if project is None:
        yield Finding("dvc cache", "skipped", "no DVC project")
        return
    folder = nearest(project.cache.local.path)
    try:
        # Tried with small files that are removed at once: what file systems report about links is not reliable.
        with (
            tempfile.TemporaryDirectory(dir=folder, prefix=".doctor-") as source,
            tempfile.TemporaryDirectory(dir=nearest(project.tmp_dir), prefix=".doctor-") as target,
        ):
            works = test_links(_LINKS, localfs, source, localfs, str(Path(target) / "file"))
    except OSError as error:
        yield Finding("dvc cache", "error", described(error), f"{folder} can be written to", f"ls -ld {folder}; df .")
        return
    yield Finding("dvc cache", "ok", f"{project.cache.local.path}, writable")
    yield _link_finding(project, works, folder)


def check_remote() -> Iterator[Finding]:
    """Check whether there is a default remote, and whether it answers."""
    project = open_project()
    if project is None:
        yield Finding("dvc remote", "skipped", "no DVC project")
        return
    name = project.config["core"].get("remote")
    if not name:
        found = "none: shards and models are on this disk only (README: dvc remote add --default …)"
        yield Finding("dvc remote", "skipped", found)
        return
    settings = project.config["remote"].get(name, {})
    url = settings.get("url", "")
    try:
        _require_listener(settings.get("endpointurl") or url)
        remote = project.cloud.get_remote(name)
        is_there = remote.fs.exists(remote.path)
    # Each kind of remote uses another library with other exceptions.
    except Exception as error:
        mend = f"dvc remote modify --local {name} …   # credentials, endpoint: dvc remote list"
        yield Finding("dvc remote", "error", f"{name} at {url}: {described(error)}", "a remote that answers", mend)
        return
    found = f"{name} at {url} answers{'' if is_there else ', but it is empty'}"
    yield judged(is_there, "dvc remote", "warning", found, "what was pushed", "dvc push")


def _require_listener(url: str) -> None:
    """Raise an error if no server listens: some libraries would retry for long, or report that the data is absent."""
    split = urlsplit(url)
    if split.hostname and split.scheme in _PORTS:
        socket.create_connection((split.hostname, split.port or _PORTS[split.scheme]), timeout=_CONNECT_S).close()


def nearest(path: str | Path) -> Path:
    """The folder itself, or the nearest existing folder above it."""
    return next(folder for folder in (Path(path), *Path(path).parents) if folder.is_dir())


def _link_finding(project: Any, works: list[str], folder: Path) -> Finding:
    types = project.cache.local.cache_types
    kind = next((kind for kind in types if kind in works or kind == "copy"), None)
    if kind is None:
        found = f"{', '.join(types)} is asked for and does not work here"
        return Finding("dvc links", "error", found, "a kind of link that works", _RELINK)
    with project:  # closes its databases again
        data_gb = sum(out.meta.size or 0 for out in project.index.outs if out.meta) / _GB
    if kind != "copy" or not works or data_gb < _TWICE_GB:
        return Finding("dvc links", "ok", f"{kind} from the cache into the workspace")
    is_apart = folder.stat().st_dev != Path(project.root_dir).stat().st_dev
    why = f"{folder} is on another file system than the workspace" if is_apart else f"{' and '.join(works)} work here"
    found = f"copy: {data_gb:.0f} GB stand twice on the disk ({why})"
    return Finding("dvc links", "warning", found, "links, where shards are large; linked files are read-only", _RELINK)
