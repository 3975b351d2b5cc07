"""Makes a registered version again from its commit and parameters, with nothing restored from a cache.

Only weights that a training starts from are, like raw data, not made again: where they came from, others may be by now.
"""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout
from rich.console import Console

from fusmae.errors import LineageError
from fusmae.release.lineage.compare import Made, ModelComparison, compare
from fusmae.release.lineage.record import Lineage, RunFacts, installed_versions, is_run_file, run_facts, weights_of
from fusmae.release.lineage.trace import Traced
from fusmae.release.registry.model_file import read_artifact
from fusmae.runs.dvc_lock import copy_from_cache, locked_outs
from fusmae.runs.git import Worktree, git
from fusmae.runs.mlflow_address import DATABASE, STORE, sqlite_uri
from fusmae.runs.process_group import own_programs_first, run_in_group
from fusmae.runs.provenance import FLOW_RUN

# Sources whose data are made from local files within minutes; others need downloads or manual work.
_CHEAP_SOURCES = ("sample", "synthetic")
# A reproduction must not write its runs and models to the addresses in these variables.
_NOT_PASSED_ON = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", FLOW_RUN)


# Raw data in the working folder, as dvc.yaml has them.
_DOWNLOADS, _RAW, _RECEIPT = Path("data/downloads"), Path("data/raw"), Path("data/raw.json")


def make_again(traced: Traced, folder: Path, *, tolerance: float, keep: bool) -> ModelComparison:
    """Make a version again in a separate checkout below `folder`, and compare the two.

    If a run is interrupted, its checkout stays, and the next run continues there; `keep` leaves it when all is done.
    The tolerance is the largest absolute difference allowed in a score.

    Raises:
        LineageError: the lineage is not complete, its commit or code is not available, or a stage fails.
    """
    lineage, top = traced.lineage, folder / traced.model.label.replace("/", "-")
    before = _made_before(traced)
    worktree = Worktree(top, require_commit(traced.commit), traced.model.sha256)
    with _alone(top):
        if not worktree.is_begun:
            worktree.make()
            set_up(worktree.folder, lineage)
            worktree.begin()
        try:
            require_code(worktree.folder, traced)
        except LineageError:
            worktree.remove()  # otherwise the next try would continue in it and be refused again
            raise
        try:
            _run_stages(worktree.folder, lineage)
            comparison = compare(before, _made_now(worktree.folder, lineage), tolerance)
        except BaseException:
            Console(stderr=True, highlight=False).print(
                f"Interrupted. What is done is kept in {top}: the same command continues there, "
                f"and `git worktree remove --force {top}` discards it.",
                soft_wrap=True,
            )
            raise
        worktree.end()
        if not keep:
            worktree.remove()
    return comparison


@contextmanager
def _alone(top: Path) -> Iterator[None]:
    top.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(top.with_name(f".{top.name}.lock")).acquire(timeout=0)
    except Timeout as error:
        raise LineageError(f"Another process makes the same version again in {top}.", hint="wait for it") from error
    with lock:
        yield


def require_commit(commit: str | None) -> str:
    """Return the commit if this clone has it.

    Raises:
        LineageError: there is no commit, this is not a clone, or it lacks the commit.
    """
    if commit is None:
        raise LineageError(
            "No commit names the code that made it: it was registered outside of a git checkout.",
            hint="register from a clone of the project",
        )
    done = git("cat-file", "-e", f"{commit}^{{commit}}")
    if done.returncode:
        raise LineageError(
            f"This clone does not have commit {commit}, whose code made it.",
            got=done.stderr.strip() or "no such commit",
            expected="a clone of the project with that commit",
            hint="git fetch --all (in a shallow clone: git fetch --unshallow)",
        )
    return commit


def _made_before(traced: Traced) -> Made:
    lineage = traced.lineage
    # The scores beside the model have the same file name as in the checkout, whatever the stage's name was then.
    name = Path(lineage.metrics).name or "metrics.json"
    metrics = read_artifact(traced.model, name)
    if lineage.gaps or metrics is None:
        raise LineageError(
            f"The lineage of {traced.model.label} is not complete enough to make it again.",
            got="; ".join([*lineage.gaps, *([] if metrics else [f"no {name} beside it"])]),
            expected="a version that `dvc repro` registered, stage by stage",
            hint="dvc repro, which registers a version with its lineage",
        )
    return Made(
        outs=lineage.outs,
        weights=lineage.weights,
        export=lineage.export,
        graph=traced.model.path,
        metrics=json.loads(metrics),
        surroundings=_surroundings(lineage.versions, lineage.runs),
    )


def _made_now(folder: Path, lineage: Lineage) -> Made:
    from mlflow import MlflowClient

    client = MlflowClient(sqlite_uri(folder / STORE / DATABASE))
    runs = [run_facts(json.loads((folder / path).read_text()), client) for path in lineage.outs if is_run_file(path)]
    return Made(
        outs=locked_outs(folder / "dvc.lock"),
        weights=weights_of(folder, lineage.outs),
        export=lineage.export,
        graph=folder / lineage.graph,
        metrics=json.loads((folder / lineage.metrics).read_text(encoding="utf-8")),
        surroundings=_surroundings(installed_versions(), runs),
    )


def _surroundings(versions: Mapping[str, str], runs: Iterable[RunFacts]) -> dict[str, str]:
    """Versions, device and threads, which may change the last bits of a result."""
    devices = {f"{run.device or 'not recorded'}, CPU threads: {run.num_threads or 'unknown'}" for run in runs}
    return {**versions, "device": "; ".join(sorted(devices))}


def set_up(folder: Path, lineage: Lineage) -> None:
    """In a fresh checkout, set the parameters as they were, link raw data, and remove what results may come from."""
    _write_params(folder / "params.yaml", lineage.params)
    (folder / "dvc.lock").unlink(missing_ok=True)
    for path in _at_hand(lineage.receipt):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).symlink_to(path.absolute())
    _bring_starts(folder, lineage)


def _bring_starts(folder: Path, lineage: Lineage) -> None:
    """Put the weights that trainings started from into the checkout, and into its dvc.lock: no stage looks them up.

    Raises:
        LineageError: this clone's cache lacks them, or DVC does not take them.
    """
    from dvc.repo import Repo

    if not lineage.starts:
        return
    with Repo() as repo:
        cache = Path(repo.cache.local.path)
    for stage in lineage.stages:
        for path in lineage.starts.keys() & stage.outs.keys():
            if not copy_from_cache(stage.outs[path], cache, folder / path):
                raise LineageError(
                    f"DVC's cache lacks the weights that the training started from: {lineage.starts[path]['origin']}.",
                    got=f"no {stage.outs[path]} in {cache}",
                    expected=f"the content of {path} as it was",
                    hint="dvc fetch --all-commits, where a remote has them",
                )
            _dvc(folder, "commit", "--force", stage.name)


def require_code(folder: Path, traced: Traced) -> None:
    """Refuse a checkout whose code differs from the code that made the version.

    Raises:
        LineageError: some files differ; the error names them.
    """
    if differing := traced.lineage.changed_code(folder):
        raise LineageError(
            f"The code that made {traced.model.label} is in no commit: it was changed and not committed.",
            got=f"{len(differing)} files other than in commit {traced.commit}: {', '.join(differing[:5])}",
            expected="the very files that dvc.lock names",
            hint="commit before `dvc repro`: only what is committed can be made again",
        )


def _write_params(path: Path, wanted: Mapping[str, Any]) -> None:
    """Set the values that differ from the commit's; without any, the file keeps its bytes and the checkout is clean."""
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    before = json.dumps(values)
    for key, value in wanted.items():
        *sections, last = key.split(".")
        section = values
        for name in sections:
            section = section.setdefault(name, {})
        section[last] = value
    if json.dumps(values) != before:
        path.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _at_hand(receipt: Mapping[str, Any]) -> Iterator[Path]:
    """Paths of the archives, and of the unpacked data if they are the same data and were not cheap to make."""
    if _DOWNLOADS.is_dir():
        yield from (path for path in _DOWNLOADS.iterdir() if path.is_file() and not path.name.startswith("."))
    name = receipt["source"]["name"]
    is_same = _RECEIPT.exists() and json.loads(_RECEIPT.read_text(encoding="utf-8")) == receipt
    if is_same and name not in _CHEAP_SOURCES and (_RAW / name).exists():
        yield _RAW / name


def _run_stages(folder: Path, lineage: Lineage) -> None:
    """Run all stages that lead to the model with a separate store, without registering: the registry is unchanged."""
    kept = {name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON}
    environment = {**kept, "PATH": own_programs_first()}
    threads = {run.num_threads for run in lineage.runs}
    if len(threads) == 1 and (count := threads.pop()):
        environment |= {"OMP_NUM_THREADS": str(count), "MKL_NUM_THREADS": str(count)}
    _dvc(folder, "repro", "--no-run-cache", *(stage.name for stage in lineage.stages), environment=environment)


def _dvc(folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
    """Run DVC in a checkout."""
    command = [str(Path(sys.executable).with_name("dvc")), *arguments]
    if code := run_in_group(command, folder=folder, environment=environment, stdout=sys.stderr):
        raise LineageError(
            f"A stage failed in {folder}: `dvc {arguments[0]}` ended with exit code {code}.",
            hint="the output above states the cause; correct it and run the same command again, which continues there",
        )
