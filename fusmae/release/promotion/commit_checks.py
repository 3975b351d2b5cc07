"""Checks that thresholds, test set and version of a promotion are those of the commit."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from fusmae.data.verdict import require_verdict
from fusmae.errors import ExaminationError, PromotionError
from fusmae.inference.session import Session
from fusmae.release.lineage.record import LINEAGE, GitState, Lineage
from fusmae.release.lineage.trace import read_lineage
from fusmae.release.promotion.experiments import WORKSPACE, commit_that_has, experiment_that_made, shown
from fusmae.release.promotion.gate import GateCheck
from fusmae.release.registry.artifacts import read_artifact
from fusmae.release.registry.model_file import ModelFile
from fusmae.runs.dvc_lock import dvc_md5, read_lock
from fusmae.runs.provenance import git_state, is_committed

_LOCK = Path("dvc.lock")
_LOCKED = "in the commit's dvc.lock"
_BESIDE = "trained on the same data set's train split, so that no test pair was in its training"


def require_committed(params: Path) -> None:
    """Refuse thresholds that are not committed.

    Raises:
        PromotionError: the file is not in the checkout's commit, or was changed since.
    """
    if not is_committed(params):
        raise PromotionError(
            "The thresholds differ from those of the commit.",
            got=f"{params}, which differs from the commit's",
            expected="`gate` in the committed params.yaml",
            hint="git commit params.yaml, and promote without --params",
        )


def require_locked(files: Sequence[Path], shards: Path, verdict: Path) -> None:
    """Refuse a test set other than the one in dvc.lock.

    Shards are identified by their manifest, whose hash is in the examination's verdict, whose hash is in dvc.lock. Thus
    the data set is not read as a whole.

    Args:
        files: paths of files that are read besides the shards.
        shards: folder of the data set.
        verdict: path of the examination's verdict.

    Raises:
        PromotionError: a file or the shards differ from dvc.lock.
    """
    known = _outs()
    for path in (*files, verdict):
        if not path.is_file() or known.get(path.as_posix()) != dvc_md5(path):
            raise PromotionError(
                f"{path} is not what dvc.lock names.",
                got=dvc_md5(path) if path.is_file() else "no such file",
                expected=known.get(path.as_posix(), "a path that a stage made"),
                hint=f"dvc checkout {path}",
            )
    try:
        require_verdict(verdict, shards)
    except ExaminationError as error:
        raise PromotionError(
            f"{shards} are not the shards that dvc.lock names: {error}", hint=f"dvc checkout {shards}"
        ) from error


def check_origin(challenger: ModelFile, shards: Path, params: Path) -> tuple[GateCheck, ...]:
    """Check that the commit has what made this version, and that it was trained with the data set of this test set.

    A run of `dvc exp run` changes params.yaml before it starts. Its version is made from uncommitted changes, but a
    later commit may have the same code, parameters and results. Therefore contents are compared, not commits.

    Args:
        challenger: ONNX file of a registered version.
        shards: folder of the data set that it is judged on, as a path in dvc.lock.
        params: path of the commit's params.yaml.

    Raises:
        RegistryError: MLflow does not answer.
        LineageError: the lineage is damaged.
    """
    text = read_artifact(challenger, LINEAGE)
    if text is None:
        reason = "registered without lineage"
        git = GitState(**(Session(challenger.path).metadata.get("git") or {"commit": None, "is_dirty": None}))
        return (
            _source(git, [reason]),
            GateCheck("lock", "skipped", reason, _LOCKED),
            GateCheck("test set", "skipped", reason, _BESIDE),
        )
    lineage, known = read_lineage(text, challenger), _outs()
    folder, data = Path(lineage.graph).parent.as_posix(), shards.as_posix()
    return (
        _source(lineage.exported, differences(lineage, params)),
        _same("lock", folder, lineage.outs.get(folder), known.get(folder), _LOCKED),
        _same("test set", data, lineage.outs.get(data), known.get(data), _BESIDE),
    )


def differences(lineage: Lineage, params: Path) -> list[str]:
    """Names of code and parameters that made a version and differ, or are missing, in the checkout; gaps in lineage."""
    values = yaml.safe_load(params.read_text(encoding="utf-8"))
    code = [path for path, md5 in lineage.code.items() if not Path(path).exists() or dvc_md5(Path(path)) != md5]
    keys = [key for key, value in lineage.params.items() if _value(values, key) != value]
    return [*lineage.gaps, *([] if lineage.stages else ["no stage of dvc.lock"]), *sorted(code), *sorted(keys)]


def require_origin(challenger: ModelFile, checks: Sequence[GateCheck]) -> None:
    """Refuse a version that the commit does not have, before anything is measured.

    Raises:
        PromotionError: a check failed; the error states which, and the command that helps.
    """
    failed = [check for check in checks if check.status == "failed"]
    if failed:
        raise PromotionError(
            f"{challenger.label} is not what this commit names; nothing was measured.",
            got="; ".join(f"{check.name}: {check.got}" for check in failed),
            expected="; ".join(check.expected for check in failed),
            hint=_advice(challenger),
        )


def _advice(challenger: ModelFile) -> str:
    """Advice on how to promote from a commit that has the version: an experiment, another commit, or a new version."""
    name, number = challenger.name, challenger.version
    promote = f"then fusmae promote {name} --experiment {WORKSPACE}"
    text = read_artifact(challenger, LINEAGE)
    lineage = read_lineage(text, challenger) if text else None
    made = lineage.outs.get(Path(lineage.graph).parent.as_posix()) if lineage else None
    if lineage is None or made is None or lineage.exported.commit is None:
        return f"`dvc repro -f -s export`, then `dvc repro` registers a version that names its commit; {promote}"
    here = made in _LOCK.read_text(encoding="utf-8")
    if experiment := None if here else experiment_that_made(made):
        return f"fusmae promote {name} --experiment {experiment.name}"
    if here:
        return f"`dvc repro` makes what this commit names and registers it; {promote}"
    if commit := commit_that_has(made):
        return f"git switch --detach {commit[:12]} && dvc checkout && fusmae promote {name} --version {number}"
    return (
        "no commit and no experiment of this clone has it: `git fetch --all`, or `dvc exp pull origin NAME` and "
        f"fusmae promote {name} --experiment NAME; to have a version of this commit: `dvc repro`, {promote}"
    )


def _source(git: GitState, differing: Sequence[str]) -> GateCheck:
    expected = "a commit with the code that made it"
    if git.commit is None:
        return GateCheck("source", "failed", "no commit is recorded for it", expected)
    if not git.is_dirty:
        return GateCheck("source", "passed", f"commit {git.commit[:12]}", expected)
    if differing:
        found = f"made from a checkout with uncommitted changes, and different here: {shown(differing)}"
        return GateCheck("source", "failed", found, expected)
    found = f"made before it was committed; commit {str(git_state()['commit'])[:12]} has its code and parameters"
    return GateCheck("source", "passed", found, expected)


def _same(name: str, path: str, got: str | None, locked: str | None, expected: str) -> GateCheck:
    if got is not None and got == locked:
        return GateCheck(name, "passed", f"{path} {got[:12]}", expected)
    found = f"{path} {got[:12] if got else 'unknown'}, dvc.lock names {locked[:12] if locked else 'none'}"
    return GateCheck(name, "failed", found, expected)


def _value(values: Any, key: str) -> Any:
    for name in key.split("."):
        values = values.get(name) if isinstance(values, dict) else None
    return values


def _outs() -> dict[str, str]:
    stages = read_lock(_LOCK.read_text(encoding="utf-8"))
    return {path: md5 for stage in stages.values() for path, md5 in stage.outs.items()}
