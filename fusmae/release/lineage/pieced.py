"""Lineage of versions that were registered by an older build: found in git, in DVC's cache and in MLflow."""

import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fusmae.inference.session import Session
from fusmae.release.lineage.mlflow_runs import RunFacts, run_facts
from fusmae.release.lineage.record import GitState, Lineage, params_of, run_files
from fusmae.release.registry.artifacts import read_artifact
from fusmae.release.registry.model_file import ModelFile
from fusmae.runs.dvc_lock import LockedStage, ancestors, dvc_md5, read_lock

_RECEIPT = "data/raw.json"
_EXPORTED = ("parity.json", "preprocessing.json")
_OLDER = "registered by an older build, which wrote no lineage down: what is said here was found elsewhere"
# As many commits of dvc.lock are searched for the version's hashes.
_MAX_COMMITS = 200


def piece_together(model: ModelFile, run_id: str, client: Any) -> Lineage:
    """What can still be found out of a version without a lineage of its own; the rest is named as gaps.

    Args:
        model: the version.
        run_id: the MLflow run that it was logged in; "" for none.
        client: an `MlflowClient`.
    """
    metadata = Session(model.path).metadata
    trained, git = metadata["trained"], GitState(**metadata["git"])
    stages, gaps = _stages(model, git, trained["inputs"])
    texts = {path: _stored(path, md5) for path, md5 in run_files(stages).items()}
    named = [json.loads(text) for text in texts.values() if text is not None]
    if run_id and run_id not in {item["run_id"] for item in named}:
        named.append({"stage": trained["stage"], "run_id": run_id, "experiment": ""})
    runs: tuple[RunFacts, ...] = tuple(run_facts(item, client) for item in named)
    hashes = {path: md5 for stage in stages for path, md5 in stage.outs.items()}
    receipt = _stored(_RECEIPT, hashes[_RECEIPT]) if _RECEIPT in hashes else None
    if _RECEIPT in hashes and receipt is None:
        gaps.append(f"the archives: {_RECEIPT} is not in DVC's cache here")
    return Lineage(
        name=model.name,
        onnx_sha256=model.sha256,
        git=git,
        exported=git,
        seed=trained["seed"],
        versions=trained["versions"],
        params=params_of(stages),
        stages=stages,
        receipt=json.loads(receipt) if receipt else {},
        runs=runs,
        gaps=(_OLDER, *gaps, *(f"a run: {path} is not in DVC's cache here" for path in texts if texts[path] is None)),
    )


def _stages(model: ModelFile, git: GitState, inputs: Mapping[str, str]) -> tuple[tuple[LockedStage, ...], list[str]]:
    """The ancestors, by a dvc.lock that has the export's own hash, or at least those of what it was trained from."""
    exported = _export_md5(model)
    locks = [read_lock(text) for text in _locks(git.commit)]
    for lock in locks:
        roots = [path for stage in lock.values() for path, md5 in stage.outs.items() if md5 == exported]
        if roots:
            return ancestors(lock, roots), []
    trained_from = {path: md5.removeprefix("md5:") for path, md5 in inputs.items()}
    for lock in locks:
        outs = {path: md5 for stage in lock.values() for path, md5 in stage.outs.items()}
        if all(outs.get(path) == md5 for path, md5 in trained_from.items()):
            return ancestors(lock, trained_from), [
                "the DVC hashes of export and finetuning: no dvc.lock in this clone states this export; "
                "what it was trained from is stated"
            ]
    return (), [
        "the DVC hashes: no dvc.lock in this clone states this export; it was trained from "
        + ", ".join(f"{path} {md5}" for path, md5 in inputs.items())
    ]


def _export_md5(model: ModelFile) -> str:
    """DVC's hash of the folder that was registered, from the files that the version kept of it."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / model.path.name).symlink_to(model.path.absolute())
        for name in _EXPORTED:
            (Path(folder) / name).write_text(read_artifact(model, name) or "", encoding="utf-8")
        return dvc_md5(Path(folder))


def _locks(commit: str | None) -> Iterator[str]:
    """Every dvc.lock at hand: at the version's commit, in the working folder, in the commits that changed it."""
    if commit:
        yield from _at(commit)
    if Path("dvc.lock").exists():
        yield Path("dvc.lock").read_text(encoding="utf-8")
    for later in _git("log", "--all", f"--max-count={_MAX_COMMITS}", "--format=%H", "--", "dvc.lock").split():
        yield from _at(later)


def _at(commit: str) -> list[str]:
    text = _git("show", "--end-of-options", f"{commit}:dvc.lock")
    return [text] if text else []


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)  # noqa: S607
    return done.stdout if done.returncode == 0 else ""


def _stored(path: str, md5: str) -> str | None:
    """A file as it was when DVC recorded it: from the working folder, or from DVC's cache."""
    if Path(path).is_file() and dvc_md5(Path(path)) == md5:
        return Path(path).read_text(encoding="utf-8")
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    try:
        with Repo(".") as repo:
            cached = Path(repo.cache.local.path) / md5[:2] / md5[2:]
    except NotDvcRepoError:
        return None
    return cached.read_text(encoding="utf-8") if cached.is_file() else None
