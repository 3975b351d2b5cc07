"""Stage examine: check whether the data is what it claims to be; training requires its verdict."""

from pathlib import Path

from fusmae.config.data import DataConfig
from fusmae.config.runtime import RuntimeConfig
from fusmae.data.cluster import open_cluster
from fusmae.data.index import read_index
from fusmae.data.shards import ShardFolder
from fusmae.data.verdict import write_verdict
from fusmae.errors import ExaminationError
from fusmae.examination.examine import examine_data, summarise
from fusmae.reports.examination import write_report
from fusmae.sources import open_source


def examine(
    data: DataConfig, runtime: RuntimeConfig, *, raw: Path, index: Path, shards: Path, out: Path, verdict: Path
) -> None:
    """Examine `index` and `shards`; write the report to `out` and, if nothing blocks, the `verdict`.

    Raises:
        ExaminationError: a check fails, and `data.tolerated` does not allow for that.
    """
    source = open_source(data.source.name, data.source.settings, kind=data.kind)
    with open_cluster(runtime.scheduler, runtime.num_dask_workers) as run:
        diagnosis = examine_data(
            read_index(index),
            source.task,
            source.facts(raw / source.name),
            shards=shards.absolute(),
            tolerated=data.tolerated,
            run=run,
        )
    write_report(out, diagnosis, title=source.name, is_synthetic=ShardFolder(shards).origin.is_synthetic)
    if diagnosis.blocks:
        raise ExaminationError(summarise(diagnosis.checks), hint=f"read {out / 'report.html'}")
    write_verdict(verdict, shards)
