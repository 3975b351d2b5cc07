"""What a stage ran on: commit, dirty flag, identity of its inputs, library versions."""

import hashlib
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from fusmae.files import file_sha256

CODE_FOLDERS = ("fusmae", "flows", "conf")
VERSIONED = ("torch", "timm", "lightning", "mlflow", "onnx", "onnxruntime")
FLOW_RUN = "FUSMAE_FLOW_RUN_ID"
"""Environment variable by which a stage's process learns which Prefect flow run it is part of; no result knows it."""
FLOW_RUN_TAG = "fusmae.flow_run"
EXPERIMENT = "FUSMAE_EXPERIMENT"
"""Environment variable with the name of the DVC experiment that the flow run becomes; no result knows it."""
EXPERIMENT_TAG = "fusmae.dvc_experiment"
HOSTS_TAG = "fusmae.hosts"


def provenance(stage: str, inputs: Sequence[Path], seed: int) -> dict[str, Any]:
    """Facts that a checkpoint, a run and a registered model carry.

    Args:
        stage: DVC's name of the stage.
        inputs: files and folders that it reads.
        seed: the run's seed.
    """
    return {
        "stage": stage,
        "git": git_state(),
        "inputs": {str(path): dvc_hash(path) or f"sha256:{content_sha256(path)}" for path in inputs},
        "seed": seed,
        "versions": {name: version(name) for name in VERSIONED},
    }


def flow_run() -> str:
    """Id of the Prefect flow run that this process is part of, or ""."""
    return os.environ.get(FLOW_RUN, "")


def flow_tags() -> dict[str, str]:
    """Which flow run and which DVC experiment this process is part of, as tags of an MLflow run; none by hand."""
    found = {FLOW_RUN_TAG: flow_run(), EXPERIMENT_TAG: os.environ.get(EXPERIMENT, "")}
    return {tag: value for tag, value in found.items() if value}


def with_host(noted: str, host: str, commit: str | None) -> str:
    """Hosts that worked on a run and the commits that they had, with one more: `one at 1234567890ab, two at …`."""
    entries = noted.split(", ") if noted else []
    entry = f"{host} at {commit[:12] if commit else 'no commit'}"
    return ", ".join(entries if entries[-1:] == [entry] else [*entries, entry])


def git_state() -> dict[str, Any]:
    """Commit, and whether a file differs from it or code is new; None and False outside a git checkout."""
    commit = _git("rev-parse", "HEAD")
    # Stages and DVC write dvc.lock as they go: it says nothing about the code that ran.
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude,glob)**/dvc.lock")
    # A new file beside the code may be imported, or composed into params.yaml.
    added = _git("ls-files", "--others", "--exclude-standard", "--", *CODE_FOLDERS)
    return {"commit": commit, "is_dirty": bool(changed or added)}


def git_email() -> str:
    """The person as git knows them here; "" where it does not."""
    return _git("config", "user.email") or ""


def is_committed(path: Path) -> bool:
    """Whether a file of the checkout is there and as the commit has it."""
    tracked = _git("ls-files", "--", str(path))
    return bool(tracked) and not _git("status", "--porcelain", "--", str(path))


def _git(*arguments: str) -> str | None:
    try:
        found = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)  # noqa: S607
    except FileNotFoundError:
        return None
    return found.stdout.strip() if found.returncode == 0 else None


def dvc_hash(path: Path, lock: Path = Path("dvc.lock")) -> str | None:
    """The hash under which DVC recorded a path as a stage's output; None if it did not."""
    if not lock.exists():
        return None
    stages = (yaml.safe_load(lock.read_text(encoding="utf-8")) or {}).get("stages", {})
    for stage in stages.values():
        for out in stage.get("outs", []):
            if Path(out["path"]) == path and "md5" in out:
                return f"md5:{out['md5']}"
    return None


def content_sha256(path: Path) -> str:
    """Identity of a file's or folder's content; a folder with a manifest of checksums is known by that manifest."""
    if path.is_file():
        return file_sha256(path)
    if (path / "manifest.json").exists():
        return file_sha256(path / "manifest.json")
    listing = {str(file.relative_to(path)): file_sha256(file) for file in sorted(path.rglob("*")) if file.is_file()}
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def resume_key(stage: str, params: Mapping[str, Any], inputs: Sequence[Path], code: Mapping[str, str]) -> str:
    """Name of a run's resume folder: another stage, parameter, input or line of its code is another run.

    Args:
        stage: DVC's name of the stage.
        params: the parameters that it reads.
        inputs: files and folders that it reads.
        code: hash of each file of its code, by path, as `stage_code` gives them.
    """
    facts = [stage, params, {str(path): content_sha256(path) for path in inputs}, dict(code)]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
