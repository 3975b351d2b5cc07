"""A model card's tables on the origin of the model: runs, energy, hashes."""

from collections.abc import Iterator, Sequence

from fusmae.release.lineage.mlflow_runs import RunFacts
from fusmae.release.lineage.record import GitState, Lineage


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table; vertical bars within cells are escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def energy_and_time(runs: Sequence[RunFacts]) -> list[str]:
    """Table of each training run's duration, device, and energy where it was measured."""
    if not runs:
        return ["Not known: the runs were not recorded."]
    rows = [
        [
            run.stage,
            f"{run.started:%Y-%m-%d %H:%M}" if run.started else "not known",
            f"{run.seconds:.0f} s" if run.seconds is not None else "not known",
            run.device or "not known",
            str(run.num_threads or "not known"),
            f"{run.gpu_wh:.1f} Wh" if run.gpu_wh is not None else "not measured",
        ]
        for run in runs
    ]
    known = [run.seconds for run in runs if run.seconds is not None]
    return [
        *markdown_table(["run", "started (UTC)", "duration", "device", "CPU threads", "energy of the GPU"], rows),
        "",
        f"{f'{sum(known):.0f} s' if known else 'Not known how long'} in all, from each run's first start to its end: "
        "pauses after a kill count. Energy comes from the power of graphics cards that MLflow samples where the driver "
        "tells it, pauses left out; that of CPU, memory and cooling is not measured.",
    ]


def origin(lineage: Lineage) -> list[str]:
    """List of commit, libraries, hashes, archives and runs."""
    return [
        f"- registered at commit {_git(lineage.git)}",
        *([f"- exported at commit {_git(lineage.exported)}"] if lineage.exported != lineage.git else []),
        f"- seed {lineage.seed}; {', '.join(f'{name} {number}' for name, number in lineage.versions.items())}",
        *(f"- not known: {gap}" for gap in lineage.gaps),
        *(f"- raw archive `{name}`: `{checksum}`" for name, checksum in lineage.receipt.get("files", {}).items()),
        *(f"- DVC: `{path}` is `md5:{md5}`, made by stage {name}" for name, path, md5 in _made(lineage)),
        *(f"- MLflow: run `{run.run_id}` of {run.stage}, commit {_run_commit(run)}" for run in lineage.runs),
        *([f"- Prefect: flow run `{lineage.flow_run}`"] if lineage.flow_run else []),
        "- all parameters, and the hashes of every line of code: `lineage.json` beside this card",
    ]


def _git(git: GitState) -> str:
    return f"`{git.commit or 'none'}`{'' if git.changes == 'clean' else f', {git.changes}'}"


def _run_commit(run: RunFacts) -> str:
    return _git(GitState(commit=run.commit, is_dirty=run.is_dirty)) if run.is_known else "not known"


def _made(lineage: Lineage) -> Iterator[tuple[str, str, str]]:
    for stage in lineage.stages:
        yield from ((stage.name, path, md5) for path, md5 in stage.outs.items())
