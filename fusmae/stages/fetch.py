"""Stage fetch: a source's raw archives, checked and unpacked."""

from pathlib import Path

from fusmae.config.runtime import RuntimeConfig
from fusmae.config.source import SourceConfig
from fusmae.files import write_json
from fusmae.sources import open_source
from fusmae.sources.receipt import receipt_of


def fetch(section: SourceConfig, runtime: RuntimeConfig, *, downloads: Path, raw: Path, receipt: Path) -> None:
    """Make the source's folder in `raw` whole; `receipt` says what it holds.

    DVC tracks the receipt: millions of raw files would stall it.
    """
    source = open_source(section.name, section.settings)
    files = source.fetch(downloads, raw / source.name, mirrors=runtime.mirrors, num_connections=runtime.num_connections)
    write_json(receipt, receipt_of(section, files))
