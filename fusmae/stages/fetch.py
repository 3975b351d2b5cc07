"""Stage fetch: a source's raw archives, checked and unpacked."""

from pathlib import Path

from fusmae.config import Config
from fusmae.sources import open_source


def fetch(config: Config, *, downloads: Path, out: Path) -> None:
    """Download what is not in `downloads` yet and unpack it to `out`."""
    open_source(config.data.source).fetch(downloads, out)
