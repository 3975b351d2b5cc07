"""Stage index: every pair of the raw data with labels, split and place, validated."""

from pathlib import Path

from fusmae.config import Config
from fusmae.data.index import validate_index, write_index
from fusmae.sources import open_source


def index(config: Config, *, raw: Path, out: Path) -> None:
    """Write the index of `raw` to the parquet file `out`."""
    source = open_source(config.data.source)
    pairs = source.pairs(raw)
    validate_index(pairs, source.classes)
    write_index(pairs, out)
