"""Stage study_report: write one page, tables and plots from every cell of a study."""

from pathlib import Path

from fusmae.config.study import StudyConfig
from fusmae.config.training import FinetuneConfig, ModelConfig, PretrainConfig
from fusmae.errors import StudyError
from fusmae.reports.study import study_about, write_report
from fusmae.runs.tracking import log_to_run
from fusmae.study.results import read_cell

REFERENCE = "fusmae"
"""Name of the variant that others are compared with."""


def study_report(
    study: StudyConfig,
    model: ModelConfig,
    pretrain: PretrainConfig,
    finetune: FinetuneConfig,
    *,
    cells: Path,
    shards: Path,
    out: Path,
    runs: Path,
) -> None:
    """Write `out` from the folder `cells`; the page is also added to the MLflow run of each cell."""
    names = [f"{variant}-{seed}" for variant in study.run for seed in study.seeds]
    absent = [name for name in names if not (cells / name).exists()]
    if absent:
        raise StudyError(
            f"{len(absent)} of {len(names)} cells are not measured yet.",
            got=f"no {', '.join(absent[:5])}{' …' if len(absent) > 5 else ''} in {cells}",
            hint="make study",
        )
    found = [read_cell(cells / name) for name in names]
    focus = study.focus.about if study.focus else ""
    write_report(
        found, out, study.title, study_about(study, model, pretrain, finetune, shards, found), REFERENCE, focus
    )
    for name in names:
        log_to_run(runs / f"measure-{name}.json", {}, out)
