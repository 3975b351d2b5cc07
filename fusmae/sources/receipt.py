"""The receipt of raw data: one JSON file that stages depend on, in place of millions of raw files."""

import json
from pathlib import Path
from typing import Any

from fusmae.config.data import DataConfig
from fusmae.config.source import PROVIDED_BY_USER
from fusmae.errors import SourceError
from fusmae.sources import open_source


def receipt_of(data: DataConfig, files: dict[str, str]) -> dict[str, Any]:
    """Return the content of the file `data/raw.json`; `files` are checksums by file name, as of `Source.fetch`."""
    source = data.source
    licence = open_source(source.name, source.settings, kind=data.kind).licence
    return {"source": source.model_dump(mode="json"), "licence": licence, "files": files}


def is_as_received(data: DataConfig, raw: Path, receipt: Path) -> bool:
    """Return whether raw files that the user provides are still those of the receipt; downloaded ones aren't checked.

    Files are compared by name, size and modification time, and by content where one of these differs.

    Raises:
        SourceError: the folder lacks what the source needs.
    """
    source = data.source
    if source.name not in PROVIDED_BY_USER:
        return True
    if not receipt.is_file():
        return False
    files = open_source(source.name, source.settings, kind=data.kind).fetch(Path(), raw)
    return bool(json.loads(receipt.read_text(encoding="utf-8")).get("files") == files)


def require_as_received(data: DataConfig, raw: Path, receipt: Path) -> None:
    """Refuse raw files that differ from the receipt: the lineage would name other files than those that were used.

    Raises:
        SourceError: the files were changed after stage fetch had recorded them.
    """
    if not is_as_received(data, raw, receipt):
        raise SourceError(
            f"{raw} is not what {receipt} names: files were added, removed or changed since stage fetch.",
            expected="raw files that stay as they are while stages run",
            hint="fusmae update",
        )
