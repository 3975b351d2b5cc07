"""Stage shard: pack raw tiles into shards, and measure band statistics of the train split."""

import shutil
from functools import partial
from pathlib import Path

from fusmae.config.data import DataConfig
from fusmae.config.runtime import RuntimeConfig
from fusmae.data.cluster import open_cluster
from fusmae.data.index import read_index
from fusmae.data.shard_writer import Maps, require_tolerated, write_shards
from fusmae.data.shards import Origin
from fusmae.data.statistics import measure_statistics, write_statistics
from fusmae.runs.provenance import resume_key, stage_code
from fusmae.sources import open_source
from fusmae.sources.receipt import require_as_received


def shard(
    data: DataConfig, runtime: RuntimeConfig, *, raw: Path, receipt: Path, index: Path, out: Path, statistics: Path
) -> None:
    """Write shards with every pair in `index` to `out`, then the `statistics` of the train split."""
    source, pairs = open_source(data.source.name, data.source.settings, data.inputs, data.kind), read_index(index)
    folder = (raw / source.name).absolute()
    require_as_received(data, folder, receipt)
    # DVC deletes a stage's outputs before it runs it: shards that a killed run has finished are kept beside them.
    params = data.model_dump(mode="json", exclude={"tolerated"})
    key = resume_key("shard", params, [receipt, index], stage_code("shard", source=source.name))
    unfinished = out.with_name(f".{out.name}-{key}")
    for stale in set(out.parent.glob(f".{out.name}-*")) - {unfinished}:
        shutil.rmtree(stale)
    with open_cluster(runtime.scheduler, runtime.num_dask_workers) as run:
        left_out = write_shards(
            pairs,
            partial(source.read, folder),
            unfinished.absolute(),
            inputs=data.inputs,
            task=source.task,
            shard_pairs=data.shard_pairs,
            maps=Maps(() if source.task.value else source.map_classes, partial(source.read_map, folder))
            if source.map_classes or source.task.is_dense
            else None,
            origin=Origin(source.name, source.licence, source.is_synthetic),
            run=run,
        )
        require_tolerated(left_out, data.tolerated, index.with_name("left_out.json"), num_pairs=len(pairs))
        measured = measure_statistics(unfinished.absolute(), run=run)
    require_as_received(data, folder, receipt)
    write_statistics(statistics, measured)
    if out.exists():
        shutil.rmtree(out)
    unfinished.rename(out)
