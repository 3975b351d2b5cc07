"""What made a registered version, as people read it."""

from collections.abc import Iterator, Mapping
from typing import Any

from fusmae.release.lineage.mlflow_runs import RunFacts
from fusmae.release.lineage.record import GitState, Lineage
from fusmae.release.lineage.trace import Traced
from fusmae.runs.dvc_lock import LockedStage

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
    yield from _section("parameters", _params(found))
    yield from _section("stages, from the raw data on (DVC's MD5)", _stages(found.stages))
    yield from _section("raw archives", _archives(found))
    yield from _section("MLflow runs", (line for run in found.runs for line in _run(run, run.run_id in traced.here)))


def _section(title: str, lines: Iterator[str]) -> Iterator[str]:
    yield f"\n{title}"
    empty = True
    for line in lines:
        empty = False
        yield f"  {line}"
    if empty:
        yield f"  {_UNKNOWN}"


def _git(git: GitState) -> str:
    return f"{git.commit or 'none'}, {git.changes}"


def _params(found: Lineage) -> Iterator[str]:
    if found.seed is not None and "seed" not in found.params:
        yield f"seed: {found.seed}"
    yield from (f"{key}: {value}" for key, value in _flat(found.params))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


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


def _run(run: RunFacts, is_here: bool) -> Iterator[str]:
    yield f"{run.stage}   {run.run_id}   {'in this store' if is_here else 'NOT in this store'}"
    if not run.is_known:
        yield f"  {_UNKNOWN}: the store that it was registered in did not have the run either"
        return
    seconds = f"{run.seconds:.0f} s" if run.seconds is not None else "no end"
    threads = f", CPU threads: {run.num_threads}" if run.num_threads else ""
    where = f"{run.device or 'an unknown device'}{threads}"
    yield f"  {run.status}, {run.started:%Y-%m-%d %H:%M} UTC, {seconds}, on {where}"
    yield f"  commit {_git(GitState(commit=run.commit, is_dirty=run.is_dirty))}"
    yield f"  flow run {run.flow_run or 'none'}"
