"""Where DVC keeps data, how data gets from there into the workspace, and the remote that other machines use."""

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fusmae.doctor.finding import Finding, described
from fusmae.doctor.repository import open_project

_PATIENCE_S = 3.0
_GB = 1e9
_TWICE_GB = 5
_PORTS = {"http": 80, "https": 443, "ssh": 22, "webdav": 80, "webdavs": 443}
_LINKS = ["reflink", "hardlink", "symlink"]
_RELINK = "dvc config --local cache.type reflink,hardlink,symlink,copy && dvc checkout --relink"


def cache_folder() -> Path | None:
    """The cache's folder, or the nearest existing folder above it; None outside a DVC project."""
    project = open_project()
    return _nearest(project.cache.local.path) if project else None


def check_cache() -> Iterator[Finding]:
    """Check that the cache is writable, and by which kind of link its files appear in the workspace."""
    from dvc.fs import localfs
    from dvc_objects.fs.generic import test_links

    project = open_project()
    if project is None:
        yield Finding("dvc cache", "skipped", "no DVC project")
        return
    folder = _nearest(project.cache.local.path)
    try:
        # Tried with small files that are removed at once: what file systems report about links is not reliable.
        with (
            tempfile.TemporaryDirectory(dir=folder, prefix=".doctor-") as source,
            tempfile.TemporaryDirectory(dir=_nearest(project.tmp_dir), prefix=".doctor-") as target,
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
    if is_there:
        yield Finding("dvc remote", "ok", f"{name} at {url} answers")
    else:
        found = f"{name} at {url} answers, but it is empty"
        yield Finding("dvc remote", "warning", found, "what was pushed", "dvc push")


def _require_listener(url: str) -> None:
    """Raise an error if no server listens: some libraries would retry for long, or report that the data is absent."""
    split = urlsplit(url)
    if split.hostname and split.scheme in _PORTS:
        socket.create_connection((split.hostname, split.port or _PORTS[split.scheme]), timeout=_PATIENCE_S).close()


def _nearest(path: str) -> Path:
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
