"""dvc.lock as a graph: which stage made a path, and from which inputs, back to the receipt of the raw archives."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

# A stage depends on folders of the package and on single files of it.
_PACKAGE = "fusmae"


class LockedStage(BaseModel):
    """A stage's entry in dvc.lock; hashes are DVC's MD5s, which end in `.dir` for a folder."""

    model_config = ConfigDict(frozen=True)

    name: str  # DVC's name of the stage, such as `probe@random`
    code: dict[str, str]  # hash of each file and folder of code, by path
    inputs: dict[str, str]  # hash of each other dependency, by path
    outs: dict[str, str]  # hash of each output, by path
    params: dict[str, Any]  # values in params.yaml, by their dotted key


def read_lock(text: str) -> dict[str, LockedStage]:
    """The stages of a dvc.lock, by name."""
    stages = (yaml.safe_load(text) or {}).get("stages") or {}
    return {name: _stage(name, entry) for name, entry in stages.items()}


def _stage(name: str, entry: Mapping[str, Any]) -> LockedStage:
    deps, outs = ({item["path"]: item.get("md5", "") for item in entry.get(kind, [])} for kind in ("deps", "outs"))
    code = {path: md5 for path, md5 in deps.items() if PurePosixPath(path).parts[0] == _PACKAGE}
    inputs = {path: md5 for path, md5 in deps.items() if path not in code}
    params = entry.get("params", {}).get("params.yaml", {})
    return LockedStage(name=name, code=code, inputs=inputs, outs=outs, params=params)


def outs_of(stages: Iterable[LockedStage]) -> dict[str, str]:
    """Hash of every output of some stages, by path."""
    return {path: md5 for stage in stages for path, md5 in stage.outs.items()}


def locked_outs(lock: Path = Path("dvc.lock")) -> dict[str, str]:
    """Hash of every output in a dvc.lock, by path; empty where there is no such file."""
    return outs_of(read_lock(lock.read_text(encoding="utf-8")).values()) if lock.exists() else {}


def ancestors(stages: Mapping[str, LockedStage], paths: Iterable[str]) -> tuple[LockedStage, ...]:
    """The stages that made some paths, directly or indirectly; each comes after those whose outputs it reads."""
    makers = {out: stage for stage in stages.values() for out in stage.outs}
    found: dict[str, LockedStage] = {}

    def visit(paths: Iterable[str]) -> None:
        for stage in (makers[path] for path in paths if path in makers):
            if stage.name not in found:
                visit(stage.inputs)
                found[stage.name] = stage

    visit(paths)
    return tuple(found.values())


def broken_links(stages: Iterable[LockedStage]) -> list[str]:
    """A sentence for each input that differs from what the stage before it made."""
    stages = tuple(stages)
    made = outs_of(stages)
    return [
        f"{stage.name} read {path} as {md5}, which is {made[path]} now"
        for stage in stages
        for path, md5 in stage.inputs.items()
        if made.get(path, md5) != md5
    ]


def copy_from_cache(md5: str, cache: Path, folder: Path) -> bool:
    """Copy an output that is a folder from DVC's cache `cache`, by its hash; False where the cache lacks some of it."""
    listing = _cached(cache, md5)
    if not listing.exists():
        return False
    files = {entry["relpath"]: _cached(cache, entry["md5"]) for entry in json.loads(listing.read_text())}
    if not all(file.exists() for file in files.values()):
        return False
    for name, file in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / name)
    return True


def _cached(cache: Path, md5: str) -> Path:
    return cache / md5[:2] / md5[2:]


def dvc_md5(path: Path) -> str:
    """The hash that DVC gives a file or a folder; Python's caches are left out, as .dvcignore names them."""
    if path.is_file():
        return _md5(path)
    found = (file for file in path.rglob("*") if file.is_file() and file.parent.name != "__pycache__")
    files = {file.relative_to(path).as_posix(): _md5(file) for file in found}
    listing = [{"md5": files[name], "relpath": name} for name in sorted(files)]
    return f"{hashlib.md5(json.dumps(listing, sort_keys=True).encode(), usedforsecurity=False).hexdigest()}.dir"


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
