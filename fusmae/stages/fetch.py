"""Stage fetch: get a source's raw archives, check and unpack them."""

from pathlib import Path

from fusmae.config.data import DataConfig
from fusmae.config.runtime import RuntimeConfig
from fusmae.files import write_json
from fusmae.sources import open_source
from fusmae.sources.receipt import receipt_of
from fusmae.sources.transfer.remote import DownloadOptions


def fetch(data: DataConfig, runtime: RuntimeConfig, *, downloads: Path, raw: Path, receipt: Path) -> None:
    """Complete the source's folder in `raw`; `receipt` lists what it contains.

    DVC tracks the receipt, because millions of raw files would make it too slow.
    """
    source = open_source(data.source.name, data.source.settings, data.inputs, data.kind)
    options = DownloadOptions(tuple(runtime.mirrors), runtime.num_connections)
    files = source.fetch(downloads, raw / source.name, options)
    write_json(receipt, receipt_of(data, files))
