"""Finds the lineage of a registered version, and which of its runs this MLflow store still has; writes it as text."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from fusmae.errors import LineageError
from fusmae.release.lineage.record import FORMAT, LINEAGE, GitState, Lineage, RunFacts, run_facts
from fusmae.release.registry.model_file import RESTORE, ModelFile, model_file, read_artifact
from fusmae.release.registry.versions import PROMOTED_COMMIT_TAG, refusals_named
from fusmae.runs.dvc_lock import LockedStage
from fusmae.runs.provenance import dotted


@dataclass(frozen=True)
class Traced:
    """A version and its lineage."""

    model: ModelFile  # ONNX file of the version
    aliases: tuple[str, ...]  # aliases that the version has in the registry now
    lineage: Lineage  # lineage of the version
    here: frozenset[str]  # ids of its runs that this MLflow store has
    # Commit at which the version became champion and which has the code and parameters that made it; "" for none.
    promoted: str = ""

    @property
    def commit(self) -> str | None:
        """The commit that has the code; if it was not committed yet when it ran, the commit of the promotion."""
        is_committed = not self.lineage.git.is_dirty
        return self.lineage.git.commit if is_committed or not self.promoted else self.promoted

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        found = self.lineage.model_dump(mode="json")
        for run in found["runs"]:
            run["is_in_this_store"] = run["run_id"] in self.here
        return {"version": self.model.version, "aliases": list(self.aliases), "promoted_commit": self.promoted, **found}


def trace(reference: str) -> Traced:
    """Find the lineage of a registered version by its reference, `fusmae@champion` or `fusmae/3`.

    Raises:
        RegistryError: there is no such version, or MLflow does not answer.
        LineageError: the reference is a plain file, or the lineage is absent, damaged or of another model.
    """
    from mlflow import MlflowClient

    model = model_file(reference)
    if not model.name:
        raise LineageError(
            f"{reference} is a file; lineage is kept of registered versions.",
            expected="NAME@ALIAS or NAME/VERSION",
            hint="dvc repro register",
        )
    lineage = read_lineage(model)
    if lineage is None:
        raise LineageError(
            f"{model.label} was registered without its lineage.",
            expected=f"{LINEAGE} beside its graph, as stage register writes it",
            hint="`dvc repro -f -s export`, then `dvc repro` registers a version with its lineage",
        )
    with refusals_named(f"{model.label} and the runs behind it"):
        client = MlflowClient()
        version = client.get_model_version(model.name, model.version)
        asked = {run.run_id: run_facts(run.model_dump(), client) for run in lineage.runs}
    # The facts in the record count; for a run that the record has no facts of, this store may have some.
    runs = tuple(run if run.is_known else asked[run.run_id] for run in lineage.runs)
    here = frozenset(run_id for run_id, run in asked.items() if run.is_known)
    promoted = version.tags.get(PROMOTED_COMMIT_TAG, "")
    return Traced(model, tuple(version.aliases), lineage.model_copy(update={"runs": runs}), here, promoted)


def read_lineage(model: ModelFile) -> Lineage | None:
    """The lineage that was registered with a version; None for a version without one.

    Raises:
        RegistryError: MLflow does not answer.
        LineageError: the record is damaged, or of another model.
    """
    text = read_artifact(model, LINEAGE)
    if text is None:
        return None
    try:
        lineage = Lineage.model_validate_json(text)
    except ValidationError as error:
        raise LineageError(
            f"{LINEAGE} of {model.label} can't be read: {error.error_count()} of its values are missing or wrong.",
            got=", ".join(".".join(map(str, item["loc"])) or "no JSON" for item in error.errors()[:3]),
            expected=f"a record of format {FORMAT}, as `fusmae register` writes it",
            hint="it was changed, or written by a newer build: use the build that registered the version",
        ) from error
    if lineage.onnx_sha256 != model.sha256:
        raise LineageError(
            f"{LINEAGE} of {model.label} is of another model: the registry's files were changed.",
            got=lineage.onnx_sha256,
            expected=model.sha256,
            hint=RESTORE,
        )
    return lineage


_UNKNOWN = "not recorded"


def lineage_text(traced: Traced) -> str:
    """Commit, parameters, hashes back to the raw archives, runs and libraries of a version."""
    return "\n".join(_lines(traced))


def _lines(traced: Traced) -> Iterator[str]:
    found, model = traced.lineage, traced.model
    yield f"{model.label}{''.join(f' @{alias}' for alias in traced.aliases)}"
    yield from (f"  gap        {gap}" for gap in found.gaps)
    yield f"  onnx       sha256:{found.onnx_sha256}"
    yield f"  commit     {_git(found.git)}"
    if traced.promoted:
        yield f"  promoted   {traced.promoted}, whose code, parameters and dvc.lock are those that made it"
    if found.exported != found.git:
        yield f"  exported   {_git(found.exported)}"
    yield f"  flow run   {_UNKNOWN if found.flow_run is None else found.flow_run or 'none: registered without Prefect'}"
    yield f"  libraries  {', '.join(f'{name} {number}' for name, number in found.versions.items()) or _UNKNOWN}"
    yield f"  dvc.lock   {f'sha256:{found.lock_sha256}, as it was when registered' if found.lock_sha256 else _UNKNOWN}"
    seed = {} if found.seed is None else {"seed": found.seed}
    sections = {
        "parameters": (f"{key}: {value}" for key, value in dotted(seed | found.params).items()),
        "stages, from the raw data on (DVC's MD5)": _stages(found.stages),
        "raw archives": _archives(found),
        **({"weights that it starts from": _starts(found)} if found.starts else {}),
        "MLflow runs": (line for run in found.runs for line in _run(run, run.run_id in traced.here)),
    }
    for title, lines in sections.items():
        yield f"\n{title}"
        yield from (f"  {line}" for line in list(lines) or [_UNKNOWN])


def _git(git: GitState) -> str:
    return f"{git.commit or 'none'}, {git.changes}"


def _stages(stages: tuple[LockedStage, ...]) -> Iterator[str]:
    for stage in stages:
        yield f"{stage.name}   ({len(stage.code)} files of code, {len(stage.params)} keys of params.yaml)"
        yield from (f"  from {md5}  {path}" for path, md5 in stage.inputs.items())
        yield from (f"  made {md5}  {path}" for path, md5 in stage.outs.items())


def _archives(found: Lineage) -> Iterator[str]:
    for name, checksum in found.receipt.get("files", {}).items():
        yield f"{checksum}  {name}"
    if "licence" in found.receipt:
        yield f"licence: {found.receipt['licence']}"


def _starts(found: Lineage) -> Iterator[str]:
    for path, start in found.starts.items():
        yield f"sha256:{start['sha256']}  {start['origin']}, as {start['reference']}, copied to {path}"


def _run(run: RunFacts, is_here: bool) -> Iterator[str]:
    yield f"{run.stage}   {run.run_id}   {'in this store' if is_here else 'NOT in this store'}"
    if not run.is_known:
        yield f"  {_UNKNOWN}: the store that it was registered in did not have the run either"
        return
    seconds = f"{run.seconds:.0f} s" if run.seconds is not None else "no end"
    threads = f", CPU threads: {run.num_threads}" if run.num_threads else ""
    device = run.device or "an unknown device"
    yield f"  {run.status}, {run.started:%Y-%m-%d %H:%M} UTC, {seconds}, on {device}{threads}"
    yield f"  commit {_git(GitState(commit=run.commit, is_dirty=run.is_dirty))}"
    yield f"  flow run {run.flow_run or 'none'}"
