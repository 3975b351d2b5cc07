"""Records the lineage of a model when it is registered: its stages in dvc.lock, parameters, runs, commit.

dvc.lock itself is committed later, or never. Therefore the part of it that leads to the model is stored with the
version.
"""

import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from fusmae.files import file_sha256
from fusmae.release.lineage.mlflow_runs import RunFacts, run_facts
from fusmae.release.registry.versions import refusals_named
from fusmae.runs.dvc_lock import LockedStage, ancestors, broken_links, dvc_md5, read_lock
from fusmae.runs.mlflow_store import connect
from fusmae.runs.provenance import FLOW_RUN_TAG, VERSIONED, flow_run, git_state

LINEAGE = "lineage.json"
FORMAT = 1
RUN_FILES = "reports/runs/"
_NOTE = "checkpoint.json"


class GitState(BaseModel):
    """A commit, and whether the code differed from it; None if that is unknown."""

    model_config = ConfigDict(frozen=True)

    commit: str | None
    is_dirty: bool | None

    @property
    def changes(self) -> str:
        """Whether the code differed from the commit, in words; this is unknown without a commit."""
        if self.commit is None or self.is_dirty is None:
            return "changes unknown"
        return "with uncommitted changes" if self.is_dirty else "clean"


class Lineage(BaseModel):
    """The lineage of a registered model: all that made it.

    Attributes:
        format: format number of this record.
        name: name of the registered model.
        onnx_sha256: SHA-256 of its ONNX file.
        graph: path of its ONNX file, in a folder that is an output of a DVC stage.
        metrics: path of its scores, an output of a DVC stage.
        git: commit at registration, whose code the stages in dvc.lock match.
        exported: commit at the export.
        seed: random seed of the training.
        versions: versions of libraries in training, by name.
        params: every value of params.yaml that its stages read, by dotted key.
        lock_sha256: SHA-256 of dvc.lock; None if there was none.
        stages: entries in dvc.lock of all stages that lead to the model, in their order.
        receipt: description of the raw data, with the archives' checksums.
        weights: SHA-256 of the weights of each checkpoint that led to the model, by folder.
        runs: MLflow runs of its training stages.
        flow_run: id of Prefect's flow run that registered it; "" without one, None if it was not recorded.
        gaps: sentences on what is not known of it, and why.
    """

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    name: str
    onnx_sha256: str
    graph: str = ""
    metrics: str = ""
    git: GitState
    exported: GitState
    seed: int | None = None
    versions: dict[str, str] = {}
    params: dict[str, Any] = {}
    lock_sha256: str | None = None
    stages: tuple[LockedStage, ...] = ()
    receipt: dict[str, Any] = {}
    weights: dict[str, str] = {}
    runs: tuple[RunFacts, ...] = ()
    flow_run: str | None = None
    gaps: tuple[str, ...] = ()

    @property
    def outs(self) -> dict[str, str]:
        """DVC's hash of every output of its stages, by path."""
        return {path: md5 for stage in self.stages for path, md5 in stage.outs.items()}

    @property
    def code(self) -> dict[str, str]:
        """MD5 of every file and folder of code that its stages ran, by path."""
        return {path: md5 for stage in self.stages for path, md5 in stage.code.items()}


def record_lineage(
    name: str,
    graph: Path,
    metadata: Mapping[str, Any],
    metrics: Path,
    receipt: Path,
) -> Lineage:
    """Record the lineage of a model from the present state of the working folder.

    Args:
        name: name of the registered model.
        graph: path of its ONNX file, in a folder that a stage made.
        metadata: metadata of the graph.
        metrics: path of its scores, a file that a stage made.
        receipt: path of the JSON that describes the raw data.

    Raises:
        RegistryError: MLflow does not answer.
    """
    connect()
    trained = metadata["trained"]
    lock = Path("dvc.lock")
    stages, gaps = _locked(lock, [graph.parent, metrics])
    texts = {path: _text_as_locked(Path(path), md5) for path, md5 in run_files(stages).items()}
    runs, gone = runs_named(texts)
    changed = _not_as_locked(stages, receipt)
    return Lineage(
        name=name,
        onnx_sha256=file_sha256(graph),
        graph=graph.as_posix(),
        metrics=metrics.as_posix(),
        git=GitState(**git_state()),
        exported=GitState(**metadata["git"]),
        seed=trained["seed"],
        versions={**trained["versions"], "python": platform.python_version()},
        params=params_of(stages),
        lock_sha256=file_sha256(lock) if lock.exists() else None,
        stages=stages,
        receipt={} if str(receipt) in changed else json.loads(receipt.read_text(encoding="utf-8")),
        weights={path: sha256 for path, sha256 in weights_of(Path(), stages).items() if path not in changed},
        runs=runs,
        flow_run=flow_run(),
        gaps=(*gaps, *gone, *changed.values()),
    )


def version_tags(lineage: Lineage) -> dict[str, str]:
    """Tags that show a part of a lineage in the registry's list of versions."""
    git = lineage.exported
    return {
        "fusmae.git_commit": str(git.commit),
        "fusmae.git_is_dirty": "unknown" if None in (git.commit, git.is_dirty) else str(git.is_dirty).lower(),
        **({FLOW_RUN_TAG: lineage.flow_run} if lineage.flow_run else {}),
    }


def _locked(lock: Path, made: Sequence[Path]) -> tuple[tuple[LockedStage, ...], list[str]]:
    """The stages that lead to the registered files, and sentences on what dvc.lock does not state."""
    if not lock.exists():
        return (), ["no DVC hash: there was no dvc.lock when it was registered"]
    known = read_lock(lock.read_text(encoding="utf-8"))
    outs = {path: md5 for stage in known.values() for path, md5 in stage.outs.items()}
    others = {str(path): dvc_md5(path) for path in made if outs.get(str(path)) != dvc_md5(path)}
    if others:
        return (), [
            f"no DVC hash: {path} was {md5} when it was registered, and dvc.lock knew {outs.get(path, 'none')}"
            for path, md5 in others.items()
        ]
    stages = ancestors(known, map(str, made))
    return stages, broken_links(stages)


def installed_versions() -> dict[str, str]:
    """Installed versions of Python and of the libraries on which results may depend, by name."""
    return {**{name: version(name) for name in VERSIONED}, "python": platform.python_version()}


def params_of(stages: Iterable[LockedStage]) -> dict[str, Any]:
    """All parameters that the stages read, by dotted key."""
    return {key: value for stage in stages for key, value in stage.params.items()}


def run_files(stages: Iterable[LockedStage]) -> dict[str, str]:
    """DVC's hashes, by path, of the files in which the stages recorded their MLflow runs."""
    return {path: md5 for stage in stages for path, md5 in stage.outs.items() if path.startswith(RUN_FILES)}


def runs_named(texts: Mapping[str, str | None]) -> tuple[tuple[RunFacts, ...], list[str]]:
    """The facts that MLflow has on the runs in some run files, and sentences on files that are gone.

    Args:
        texts: texts of the run files, by path; None for a file that is gone or changed.

    Raises:
        RegistryError: MLflow does not answer.
    """
    from mlflow import MlflowClient

    gone = [f"no run id: {path} is gone or changed" for path, text in texts.items() if text is None]
    with refusals_named("the runs behind a model"):
        client = MlflowClient()
        return tuple(run_facts(json.loads(text), client) for text in texts.values() if text is not None), gone


def _text_as_locked(path: Path, md5: str) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() and dvc_md5(path) == md5 else None


def _not_as_locked(stages: Sequence[LockedStage], receipt: Path) -> dict[str, str]:
    """Files (receipt, notes of checkpoints) that differ from dvc.lock, with the reason; they are not used."""
    if not stages:
        return {}
    outs = {path: md5 for stage in stages for path, md5 in stage.outs.items()}
    known = {path: md5 for stage in stages for path, md5 in stage.inputs.items()} | outs
    now = {path: dvc_md5(Path(path)) for path in (str(receipt), *_notes(Path(), stages))}
    return {
        path: f"not used: {path} was {md5} when it was registered, and dvc.lock knew {known.get(path, 'none')}"
        for path, md5 in now.items()
        if known.get(path) != md5
    }


def weights_of(folder: Path, stages: Iterable[LockedStage]) -> dict[str, str]:
    """SHA-256 of the weights in each checkpoint folder that the stages made, as stated in `checkpoint.json` there.

    Args:
        folder: folder in which the stages ran.
        stages: stages of dvc.lock.
    """
    notes = _notes(folder, stages)
    return {path: json.loads(note.read_text(encoding="utf-8"))["sha256"] for path, note in notes.items()}


def _notes(folder: Path, stages: Iterable[LockedStage]) -> dict[str, Path]:
    """Paths of `checkpoint.json` in the checkpoint folders that exist, by the folder's path."""
    notes = {path: folder / path / _NOTE for stage in stages for path in stage.outs}
    return {path: note for path, note in notes.items() if note.exists()}
