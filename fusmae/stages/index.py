"""Stage index: list all pairs of the raw data with labels, split and place; run the checks that need no pixels."""

from pathlib import Path

from fusmae.config.data import DataConfig
from fusmae.data.index import validate_index, write_index
from fusmae.errors import ExaminationError
from fusmae.examination.examine import examine_index, summarise
from fusmae.sources import open_source


def index(data: DataConfig, *, raw: Path, out: Path) -> None:
    """Write the index of the source's folder in `raw` to the parquet file `out`.

    Raises:
        ExaminationError: counts, labels or places are not those that the dataset states. It comes before sharding, to
            save time.
    """
    source = open_source(data.source.name, data.source.settings, data.inputs, data.kind)
    pairs = source.pairs(raw / source.name)
    validate_index(pairs, source.task)
    facts = source.facts(raw / source.name)
    checks = examine_index(pairs, source.task, facts, tolerated=data.tolerated)
    if any(check.blocks for check in checks):
        raise ExaminationError(summarise(checks))
    write_index(pairs, out)
