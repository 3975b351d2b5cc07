"""Provenance of a stage's results: commit, dirty flag, hashes of its inputs and code, library versions."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from fusmae.files import file_sha256
from fusmae.runs.dvc_lock import locked_outs
from fusmae.runs.environment import installed_version
from fusmae.runs.git import git

PACKAGE = Path(__file__).parents[1]
CODE_FOLDERS = ("fusmae", "flows", "conf")
VERSIONED = ("torch", "timm", "lightning", "mlflow", "onnx", "onnxruntime")
FLOW_RUN = "FUSMAE_FLOW_RUN_ID"
"""Environment variable: id of the Prefect flow run that a stage's process is part of; no result depends on it."""
FLOW_RUN_TAG = "fusmae.flow_run"
EXPERIMENT = "FUSMAE_EXPERIMENT"
"""Environment variable: name of the DVC experiment that the flow run becomes; no result depends on it."""
EXPERIMENT_TAG = "fusmae.dvc_experiment"
HOSTS_TAG = "fusmae.hosts"


def provenance(stage: str, inputs: Sequence[Path], seed: int) -> dict[str, Any]:
    """Facts that a checkpoint, a run and a registered model carry; `inputs` are the files and folders of the stage."""
    return {
        "stage": stage,
        "git": git_state(),
        "inputs": {str(path): dvc_hash(path) or f"sha256:{content_sha256(path)}" for path in inputs},
        "seed": seed,
        "versions": {name: installed_version(name) for name in VERSIONED},
    }


def dotted(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted names, such as `pretrain.epochs`; an empty mapping is a value."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        is_nested = isinstance(value, Mapping) and value
        flat |= dotted(value, f"{prefix}{key}.") if is_nested else {f"{prefix}{key}": value}
    return flat


def flow_run() -> str:
    """Id of the Prefect flow run that this process is part of, or ""."""
    return os.environ.get(FLOW_RUN, "")


def flow_tags() -> dict[str, str]:
    """This process's flow run and DVC experiment, as tags of an MLflow run; empty where no flow started it."""
    found = {FLOW_RUN_TAG: flow_run(), EXPERIMENT_TAG: os.environ.get(EXPERIMENT, "")}
    return {tag: value for tag, value in found.items() if value}


def with_host(noted: str, host: str, commit: str | None) -> str:
    """The list of hosts that worked on a run, with one host added: `one at 1234567890ab, two at …` (host, commit)."""
    entries = noted.split(", ") if noted else []
    entry = f"{host} at {commit[:12] if commit else 'no commit'}"
    return ", ".join(entries if entries[-1:] == [entry] else [*entries, entry])


def git_state() -> dict[str, Any]:
    """The commit, and whether files differ from it or new code is there; None and False outside a git checkout."""
    commit = _git("rev-parse", "HEAD")
    # DVC writes dvc.lock while stages run: its changes are no changes of code.
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude,glob)**/dvc.lock")
    # A new file beside the code may be imported, or composed into params.yaml.
    added = _git("ls-files", "--others", "--exclude-standard", "--", *CODE_FOLDERS)
    return {"commit": commit, "is_dirty": bool(changed or added)}


def git_email() -> str:
    """The user's e-mail address in git's configuration; "" where it has none."""
    return _git("config", "user.email") or ""


def is_committed(path: Path) -> bool:
    """Whether git tracks the file and it is unchanged since the commit."""
    tracked = _git("ls-files", "--", str(path))
    return bool(tracked) and not _git("status", "--porcelain", "--", str(path))


def _git(*arguments: str) -> str | None:
    try:
        found = git(*arguments)
    except FileNotFoundError:
        return None
    return found.stdout.strip() if found.returncode == 0 else None


def dvc_hash(path: Path, lock: Path = Path("dvc.lock")) -> str | None:
    """The hash under which DVC recorded a path as a stage's output; None if it did not."""
    md5 = locked_outs(lock).get(path.as_posix())
    return f"md5:{md5}" if md5 else None


def content_sha256(path: Path) -> str:
    """SHA-256 of a file's or folder's content; for a folder with a manifest of checksums, that of the manifest."""
    if not path.is_file() and (path / "manifest.json").exists():
        path = path / "manifest.json"
    if path.is_file():
        return file_sha256(path)
    listing = {str(file.relative_to(path)): file_sha256(file) for file in sorted(path.rglob("*")) if file.is_file()}
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def stage_code(stage: str, dvc_yaml: Path = Path("dvc.yaml"), *, source: str = "") -> dict[str, str]:
    """SHA-256 of each Python file that dvc.yaml names as a dependency of a stage, by path: DVC compares the same files.

    Where there is no such file or stage, as a command may run without DVC, all files of the package count. `source` is
    the name of the raw data set, which replaces `${data.source.name}`.
    """
    stages = yaml.safe_load(dvc_yaml.read_text(encoding="utf-8"))["stages"] if dvc_yaml.exists() else {}
    listed = [path.removeprefix("../") for path in stages.get(stage, {}).get("deps", [])]
    rooms = [path.replace("${data.source.name}", source) for path in listed if path.startswith("fusmae/")]
    root = PACKAGE.parent
    paths = [root / room for room in rooms] or [PACKAGE]
    files = {file for path in paths for file in ([path] if path.is_file() else path.rglob("*.py"))}
    return {file.relative_to(root).as_posix(): file_sha256(file) for file in sorted(files)}


def resume_key(stage: str, params: Mapping[str, Any], inputs: Sequence[Path], code: Mapping[str, str]) -> str:
    """The key that names a run's resume folder; it changes with the stage, its parameters, its inputs and its code.

    `inputs` are files and folders that the stage reads, `code` the hashes that `stage_code` returns.
    """
    facts = [stage, params, {str(path): content_sha256(path) for path in inputs}, dict(code)]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
