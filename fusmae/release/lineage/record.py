"""Records the lineage of a model when it is registered: its stages in dvc.lock, parameters, runs, commit.

dvc.lock itself is committed later, or never. Therefore the part of it that leads to the model is stored with the
version.
"""

import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from pydantic import BaseModel, ConfigDict

from fusmae.files import file_sha256
from fusmae.release.registry.versions import refusals_named
from fusmae.runs.dvc_lock import LockedStage, ancestors, broken_links, dvc_md5, outs_of, read_lock
from fusmae.runs.environment import installed_version
from fusmae.runs.mlflow_store import connect
from fusmae.runs.provenance import FLOW_RUN_TAG, VERSIONED, flow_run, git_state
from fusmae.training.checkpoint_card import CARD, START

LINEAGE = "lineage.json"
FORMAT = 1
_POWER = "power_usage_watts"
# A gap this many times as long as the median gap is a pause, in which the card's power is unknown.
_PAUSE = 10


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


class RunFacts(BaseModel):
    """The MLflow run of a training stage; facts that the store does not have are None."""

    model_config = ConfigDict(frozen=True)

    stage: str  # name of the stage, such as `finetune-pretrained`
    run_id: str  # MLflow's id of the run
    experiment: str  # name of its MLflow experiment
    status: str | None = None  # MLflow's status; FINISHED for a run that was completed
    started: datetime | None = None  # time of its first start, UTC
    seconds: float | None = None  # time from its first start to its end in seconds, with pauses after a kill
    commit: str | None = None  # commit of the code that ran
    is_dirty: bool | None = None  # whether the code had uncommitted changes; None also without a git checkout
    device: str | None = None  # device on which it computed
    num_threads: int | None = None  # number of CPU threads
    flow_run: str | None = None  # id of Prefect's flow run that started it
    # Energy of the graphics cards in watt-hours, if their power was recorded; gaps of more than 10 times the median
    # sampling interval are pauses after a kill, and are left out.
    gpu_wh: float | None = None

    @property
    def is_known(self) -> bool:
        """Whether the store had the run."""
        return self.status is not None


class Lineage(BaseModel):
    """The lineage of a registered model: all that made it."""

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT  # format number of this record
    name: str  # name of the registered model
    onnx_sha256: str  # SHA-256 of its ONNX file
    graph: str = ""  # path of its ONNX file, in a folder that is an output of a DVC stage
    metrics: str = ""  # path of its scores, an output of a DVC stage
    git: GitState  # commit at registration, whose code the stages in dvc.lock match
    exported: GitState  # commit at the export
    seed: int | None = None  # random seed of the training
    versions: dict[str, str] = {}  # versions of libraries in training, by name
    params: dict[str, Any] = {}  # every value of params.yaml that its stages read, by dotted key
    lock_sha256: str | None = None  # SHA-256 of dvc.lock; None if there was none
    stages: tuple[LockedStage, ...] = ()  # entries in dvc.lock of all stages that lead to the model, in their order
    receipt: dict[str, Any] = {}  # description of the raw data, with the archives' checksums
    weights: dict[str, str] = {}  # SHA-256 of the weights of each checkpoint that led to the model, by folder
    # Weights from outside that a training started from, by the folder of their copy: content of `start.json`.
    starts: dict[str, dict[str, str]] = {}
    runs: tuple[RunFacts, ...] = ()  # MLflow runs of its training stages
    # Id of Prefect's flow run that registered it; "" without one, None if it was not recorded.
    flow_run: str | None = None
    gaps: tuple[str, ...] = ()  # sentences on what is not known of it, and why

    @property
    def outs(self) -> dict[str, str]:
        """DVC's hash of every output of its stages, by path."""
        return outs_of(self.stages)

    @property
    def export(self) -> str:
        """Path of the graph's folder, an output of a DVC stage."""
        return Path(self.graph).parent.as_posix()

    def changed_code(self, folder: Path) -> list[str]:
        """Files and folders of its stages' code that are missing or other in a checkout."""
        code = {(path, md5) for stage in self.stages for path, md5 in stage.code.items()}
        return sorted({path for path, md5 in code if not (folder / path).exists() or dvc_md5(folder / path) != md5})


def record_lineage(name: str, graph: Path, metadata: Mapping[str, Any], metrics: Path, receipt: Path) -> Lineage:
    """Record the lineage of a model from the present state of the working folder.

    `metadata` is the graph's; `receipt` is the JSON that describes the raw data; for the others see `Lineage`.

    Raises:
        RegistryError: MLflow does not answer.
    """
    from mlflow import MlflowClient

    connect()
    trained, lock = metadata["trained"], Path("dvc.lock")
    stages, gaps = _locked(lock, [graph.parent, metrics])
    outs = outs_of(stages)
    # Files that differ from dvc.lock are not used.
    notes = [path for path in outs if _note(Path(), path).exists()]
    run_files = [path for path in outs if is_run_file(path)]
    known = {path: md5 for stage in stages for path, md5 in stage.inputs.items()} | outs
    changed = _changed([str(receipt), *notes, *run_files], known) if stages else {}
    with refusals_named("the runs behind a model"):
        client = MlflowClient()
        texts = [Path(path).read_text(encoding="utf-8") for path in run_files if path not in changed]
        runs = tuple(run_facts(json.loads(text), client) for text in texts)
    return Lineage(
        name=name,
        onnx_sha256=file_sha256(graph),
        graph=graph.as_posix(),
        metrics=metrics.as_posix(),
        git=GitState(**git_state()),
        exported=GitState(**metadata["git"]),
        seed=trained["seed"],
        versions={**trained["versions"], "python": platform.python_version()},
        params={key: value for stage in stages for key, value in stage.params.items()},
        lock_sha256=file_sha256(lock) if lock.exists() else None,
        stages=stages,
        receipt={} if str(receipt) in changed else json.loads(receipt.read_text(encoding="utf-8")),
        weights=weights_of(Path(), [path for path in notes if path not in changed]),
        starts=_starts_of([path for path in notes if path not in changed]),
        runs=runs,
        flow_run=flow_run(),
        gaps=(*gaps, *(f"not used: {found}" for found in changed.values())),
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
    known, paths = read_lock(lock.read_text(encoding="utf-8")), list(map(str, made))
    if changed := _changed(paths, outs_of(known.values())):
        return (), [f"no DVC hash: {found}" for found in changed.values()]
    stages = ancestors(known, paths)
    return stages, broken_links(stages)


def _changed(paths: Iterable[str], known: Mapping[str, str]) -> dict[str, str]:
    """Paths that are not what dvc.lock names, each with the two hashes in a sentence."""
    now = {path: dvc_md5(Path(path)) if Path(path).exists() else "gone" for path in paths}
    return {
        path: f"{path} was {md5} when it was registered, and dvc.lock knew {known.get(path, 'none')}"
        for path, md5 in now.items()
        if known.get(path) != md5
    }


def installed_versions() -> dict[str, str]:
    """Installed versions of Python and of the libraries on which results may depend, by name."""
    return {**{name: installed_version(name) for name in VERSIONED}, "python": platform.python_version()}


def is_run_file(path: str) -> bool:
    """Whether a stage recorded its MLflow run in this output."""
    return path.startswith("reports/runs/")


def weights_of(folder: Path, paths: Iterable[str]) -> dict[str, str]:
    """SHA-256 of the weights in each of the paths below `folder` that is a checkpoint, as stated in it."""
    notes = {path: note for path in paths if (note := _note(folder, path)).exists()}
    return {path: json.loads(note.read_text(encoding="utf-8"))["sha256"] for path, note in notes.items()}


def _starts_of(paths: Iterable[str]) -> dict[str, dict[str, str]]:
    """What each of the paths that has weights from outside states of them."""
    notes = {path: note for path in paths if (note := Path(path, START)).exists()}
    return {path: json.loads(note.read_text(encoding="utf-8")) for path, note in notes.items()}


def _note(folder: Path, path: str) -> Path:
    return folder / path / CARD


def run_facts(named: Mapping[str, Any], client: Any) -> RunFacts:
    """Read the facts on the run that a run file names; only what the file states if the client's store lacks it."""
    from mlflow.exceptions import MlflowException

    known = RunFacts(stage=named["stage"], run_id=named["run_id"], experiment=named["experiment"])
    try:
        run = client.get_run(known.run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return known
        raise
    info, tags = run.info, run.data.tags
    threads, dirty = tags.get("fusmae.num_threads"), tags.get("fusmae.git_is_dirty")
    # Outside of a git checkout, the run's tags are commit `None` and no changes.
    commit = None if tags.get("fusmae.git_commit") == "None" else tags.get("fusmae.git_commit")
    facts = {
        "status": str(info.status),
        "started": datetime.fromtimestamp(info.start_time / 1000, UTC),
        "seconds": (info.end_time - info.start_time) / 1000 if info.end_time else None,
        "commit": commit,
        "is_dirty": dirty == "true" if dirty and commit else None,
        "device": tags.get("fusmae.device"),
        "num_threads": int(threads) if threads else None,
        "flow_run": tags.get(FLOW_RUN_TAG),
        "gpu_wh": _gpu_wh(client, run),
    }
    return known.model_copy(update=facts)


def _gpu_wh(client: Any, run: Any) -> float | None:
    """Energy of all cards in watt-hours, from the power that MLflow sampled; None if there are no samples."""
    names = [name for name in run.data.metrics if name.startswith("system/gpu_") and name.endswith(_POWER)]
    return sum(_watt_hours(client.get_metric_history(run.info.run_id, name)) for name in names) if names else None


def _watt_hours(samples: Sequence[Any]) -> float:
    """Energy in watt-hours, by trapezoids between neighbouring samples, without those that span a pause."""
    pairs = list(pairwise(sorted(samples, key=lambda sample: sample.timestamp)))
    gaps = [b.timestamp - a.timestamp for a, b in pairs]
    longest = _PAUSE * median([gap for gap in gaps if gap] or [0])
    joules = [gap / 1000 * (a.value + b.value) / 2 for gap, (a, b) in zip(gaps, pairs, strict=True) if gap <= longest]
    return float(sum(joules)) / 3600
