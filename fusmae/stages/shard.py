"""Stage shard: raw tiles to memory-mapped shards, and band statistics of the train split."""

from pathlib import Path

from rich.progress import track

from fusmae.config import Config
from fusmae.data.index import read_index
from fusmae.data.shards import ShardReader, write_shards
from fusmae.data.statistics import measure_statistics, write_statistics
from fusmae.sources import open_source


def shard(config: Config, *, raw: Path, index: Path, out: Path, statistics: Path) -> None:
    """Write the shards of every pair in `index` to `out`, then train's `statistics`."""
    source = open_source(config.data.source)
    write_shards(
        read_index(index),
        lambda pair: source.read(raw, pair),
        out,
        inputs=config.data.inputs,
        classes=source.classes,
        shard_pairs=config.data.shard_pairs,
        progress=lambda plan: track(plan, description="shards"),
    )
    write_statistics(statistics, measure_statistics(ShardReader(out, "train", verify=False)))
