"""Checks that thresholds, test set and version of a promotion are those of the commit."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from fusmae.data.verdict import require_verdict
from fusmae.errors import ExaminationError, PromotionError
from fusmae.inference.session import Session
from fusmae.release.lineage.record import GitState, Lineage
from fusmae.release.lineage.trace import read_lineage
from fusmae.release.promotion.experiments import (
    KEEP_CHANGES,
    LOCK,
    OF_A_RUN,
    PARAMS,
    WORKSPACE,
    commit_that_has,
    experiment_that_made,
    shown,
    uncommitted,
)
from fusmae.release.promotion.gate import GateCheck
from fusmae.release.registry.model_file import ModelFile
from fusmae.runs.dvc_lock import dvc_md5, locked_outs
from fusmae.runs.provenance import git_state, is_committed

_EXPECTED = {
    "lock": "in the commit's dvc.lock",
    "test set": "trained on the same data set's train split, so that no test pair was in its training",
}


def require_committed(name: str, params: Path) -> None:
    """Refuse to decide from a state that is not committed, or by thresholds (`params`) that are not.

    Raises:
        PromotionError: there is no git checkout, files are changed or new, or dvc.lock or `params` is not committed.
    """
    git = git_state()
    if git["commit"] is None:
        raise PromotionError(
            "A version is promoted from a git checkout, so that a commit identifies the thresholds.",
            got="no commit here",
            hint="run it in a clone of the project",
        )
    keep = f"fusmae promote {name} --experiment {WORKSPACE}, which commits {PARAMS} and {LOCK} and then judges"
    if git["is_dirty"]:
        changed = uncommitted()
        raise PromotionError(
            "The checkout has uncommitted changes.",
            got=shown(changed) or "a dirty tree",
            expected="every change committed",
            hint=keep if {*changed} <= OF_A_RUN else KEEP_CHANGES,
        )
    if not is_committed(Path(LOCK)):
        raise PromotionError(
            f"{LOCK} is not committed: the data and models of this run could not be found again.", hint=keep
        )
    if not is_committed(params):
        raise PromotionError(
            "The thresholds differ from those of the commit.",
            got=f"{params}, which differs from the commit's",
            expected=f"`gate` in the committed {PARAMS}",
            hint=f"git commit {PARAMS}, and promote without --params",
        )


def require_locked(index: Path, shards: Path, verdict: Path) -> None:
    """Refuse a test set other than the one in dvc.lock.

    Shards are identified by their manifest, whose hash is in the examination's verdict, whose hash is in dvc.lock. Thus
    the data set is not read as a whole.

    Raises:
        PromotionError: a file or the shards differ from dvc.lock.
    """
    known = locked_outs()
    for path in (index, verdict):
        got = dvc_md5(path) if path.is_file() else "no such file"
        expected = known.get(path.as_posix(), "a path that a stage made")
        if got != expected:
            hint = f"dvc checkout {path}"
            raise PromotionError(f"{path} is not what dvc.lock names.", got=got, expected=expected, hint=hint)
    try:
        require_verdict(verdict, shards)
    except ExaminationError as error:
        hint = f"dvc checkout {shards}"
        raise PromotionError(f"{shards} are not the shards that dvc.lock names: {error}", hint=hint) from error


def check_origin(challenger: ModelFile, shards: Path, params: Path) -> tuple[GateCheck, ...]:
    """Check that the commit has what made this version, and that it was trained with the data set of this test set.

    A run of `dvc exp run` changes params.yaml before it starts. Its version is made from uncommitted changes, but a
    later commit may have the same code, parameters and results. Therefore contents are compared, not commits.

    Raises:
        RegistryError: MLflow does not answer.
        LineageError: the lineage is damaged.
    """
    lineage = read_lineage(challenger)
    if lineage is None:
        why = "registered without lineage"
        git = GitState(**(Session(challenger.path).metadata.get("git") or {"commit": None, "is_dirty": None}))
        skipped = (GateCheck.of(name, None, why, expected) for name, expected in _EXPECTED.items())
        return (_source(git, [why]), *skipped)
    return (
        _source(lineage.exported, _differences(lineage, params)),
        _same("lock", lineage.export, lineage),
        _same("test set", shards.as_posix(), lineage),
    )


def _differences(lineage: Lineage, params: Path) -> list[str]:
    """Names of code and parameters that made a version and differ, or are missing, in the checkout; gaps in lineage."""
    values = yaml.safe_load(params.read_text(encoding="utf-8"))
    keys = sorted(key for key, value in lineage.params.items() if _value(values, key) != value)
    gaps = lineage.gaps if lineage.stages else (*lineage.gaps, "no stage of dvc.lock")
    return [*gaps, *lineage.changed_code(Path()), *keys]


def _value(values: Any, key: str) -> Any:
    for name in key.split("."):
        values = values.get(name) if isinstance(values, dict) else None
    return values


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
    lineage = read_lineage(challenger)
    made = lineage.outs.get(lineage.export) if lineage and lineage.exported.commit else None
    if made is None:
        return f"`dvc repro -f -s export`, then `dvc repro` registers a version that names its commit; {promote}"
    if made in locked_outs().values():
        return f"`dvc repro` makes what this commit names and registers it; {promote}"
    if experiment := experiment_that_made(made):
        return f"fusmae promote {name} --experiment {experiment.name}"
    if commit := commit_that_has(made):
        return f"git switch --detach {commit[:12]} && dvc checkout && fusmae promote {name} --version {number}"
    return (
        "no commit and no experiment of this clone has it: `git fetch --all`, or `dvc exp pull origin NAME` and "
        f"fusmae promote {name} --experiment NAME; to have a version of this commit: `dvc repro`, {promote}"
    )


def _source(git: GitState, differing: Sequence[str]) -> GateCheck:
    if git.commit is None:
        got = "no commit is recorded for it"
    elif not git.is_dirty:
        got = f"commit {git.commit[:12]}"
    elif differing:
        got = f"made from a checkout with uncommitted changes, and different here: {shown(differing)}"
    else:
        got = f"made before it was committed; commit {str(git_state()['commit'])[:12]} has its code and parameters"
    is_known = git.commit is not None and not (git.is_dirty and differing)
    return GateCheck.of("source", is_known, got, "a commit with the code that made it")


def _same(name: str, path: str, lineage: Lineage) -> GateCheck:
    """Whether dvc.lock has the output that the lineage has."""
    made, locked = lineage.outs.get(path), locked_outs().get(path)
    is_same = made is not None and made == locked
    other = "" if is_same else f", dvc.lock names {locked[:12] if locked else 'none'}"
    return GateCheck.of(name, is_same, f"{path} {made[:12] if made else 'unknown'}{other}", _EXPECTED[name])
