"""Results of a finished study without its draws, predictions and pictures, in a file that is small enough to keep.

make study && python -m benchmarks.study --out benchmarks/results/study_quick.json
"""

import subprocess
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import command_line as cli
from fusmae.config.params import load_config
from fusmae.data.index import SPLITS
from fusmae.data.shards import ShardReader
from fusmae.files import write_json
from fusmae.stages.study_report import REFERENCE
from fusmae.study.comparisons import JOINT, Comparison, compare, verdict
from fusmae.study.results import Found, read_cell
from fusmae.study.summary import Study, Use, percent, summarise
from fusmae.study.tables import as_metrics
from fusmae.study.variants import study_of

DIGITS = 4
AGAINST = [REFERENCE, JOINT]

OWN = "own"
"""Stands for the condition in which a variant gets all modalities that it can take."""


def main(
    study: Annotated[Path, typer.Option(help="folder of the study")] = Path("study"),
    out: cli.Out = cli.RESULTS / "study_quick.json",
    against: Annotated[list[str], typer.Option(help="variants that every other one is compared with")] = AGAINST,
    note: Annotated[str, typer.Option(help="what a reader must know besides")] = "",
) -> None:
    """Write the study's answers, scores, costs and evidence."""
    config = load_config(study / "params.yaml")
    own = study_of(config)
    cells = [read_cell(study / "cells" / f"{variant}-{seed}") for variant in own.run for seed in own.seeds]
    origins = [found.cell.origin for found in cells]
    summed = summarise(cells, REFERENCE)
    warnings = sorted({origin["warning"] for origin in origins if origin.get("warning")})
    found = as_metrics(summed, verdict(summed, own.focus.about if own.focus else ""), warnings)
    readers = {split: ShardReader(study / "data" / "shards", split, verify=False) for split in SPLITS}
    sections = {"source": config.data.source, "model": config.model, "pretrain": config.pretrain}
    write_json(
        out,
        {
            "note": note,
            "synthetic": bool(warnings),
            "commit": _only({origin["commit"] for origin in origins}),
            "is_dirty": any(origin["is_dirty"] for origin in origins),
            "changed": _changed(study),
            "data": _only({origin["data"] for origin in origins}),
            "machine": cli.machine(_only({origin["device"] for origin in origins})),
            "pairs": {split: len(reader) for split, reader in readers.items()},
            **{name: section.model_dump(mode="json") for name, section in sections.items()},
            "study": own.model_dump(mode="json", exclude={"variants", "title"}),
            **_rounded(found),
            "differences": {name: _differences(summed, name) for name in against if name in summed.variants},
            "cells": {f"{cell.cell.variant}-{cell.cell.seed}": _cell(cell) for cell in cells},
        },
    )
    print(f"wrote {out}")


def _changed(study: Path) -> list[str]:
    """Files that differ from the commit; `study/params.yaml` is one of them in every study but the default one."""
    command = ["git", "status", "--porcelain", "--untracked-files=no"]
    printed = subprocess.run(command, cwd=study, capture_output=True, text=True, check=True).stdout
    return [line[3:] for line in printed.splitlines()]


def _only(values: set[str]) -> str:
    if len(values) != 1:
        raise SystemExit(f"The study's cells differ: got {sorted(values)}; expected one. `dvc repro -f` in the study")
    return values.pop()


def differences(study: Study, other: str) -> dict[str, dict[str, dict[Use, Comparison]]]:
    """Every variant minus the variant `other`, wherever both were measured.

    Statements like "better in 11 of 12" count these.

    Returns:
        Comparisons by variant, then by condition (`OWN`: each with all that it can take), then by protocol and share.
    """
    found: dict[str, dict[str, dict[Use, Comparison]]] = {}
    for variant in study.variants:
        for condition in (None, *study.conditions) if variant != other else ():
            pairs = {
                use: (study.line(variant, use, condition), study.line(other, use, condition)) for use in study.uses
            }
            compared = {use: compare(one, two) for use, (one, two) in pairs.items() if one and two}
            if compared:
                found.setdefault(variant, {})[condition or OWN] = compared
    return found


def _differences(study: Study, other: str) -> dict[str, Any]:
    """Each variant minus `other` with its paired interval, by variant, condition, protocol and share."""
    written: dict[str, Any] = {}
    for variant, by_condition in differences(study, other).items():
        for condition, compared in by_condition.items():
            rows = written.setdefault(variant, {}).setdefault(condition, {})
            for (protocol, share), found in compared.items():
                interval = {"difference": found.difference, "low": found.low, "high": found.high}
                rows[f"{protocol} {percent(share)}"] = _rounded(interval)
    return written


def _cell(found: Found) -> dict[str, Any]:
    """A cell's numbers under every condition; the summary has only those under a variant's own condition."""
    cell = found.cell
    rows = {row.name: row.headline for row in cell.rows}
    focus = {row.name: row.in_focus.headline for row in cell.rows if row.in_focus}
    evidence = {"reconstruction": cell.reconstruction, "retrieval": cell.retrieval}
    return dict(_rounded({"cost": cell.cost, **evidence, "headline": rows, "in_focus": focus}))


def _rounded(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _rounded(value) for key, value in values.items()}
    return round(values, DIGITS) if isinstance(values, float) else values


if __name__ == "__main__":
    cli.run_main(main)
