"""The receipt of raw data: what stages depend on, in place of millions of files."""

import json
from pathlib import Path
from typing import Any

from fusmae.config.source import BROUGHT_BY_HAND, SourceConfig
from fusmae.errors import SourceError
from fusmae.sources import open_source


def receipt_of(config: SourceConfig, files: dict[str, str]) -> dict[str, Any]:
    """What the file `data/raw.json` holds.

    Args:
        config: name and settings of the source.
        files: checksums, as `Source.fetch` gives them.
    """
    licence = open_source(config.name, config.settings).licence
    return {"source": config.model_dump(mode="json"), "licence": licence, "files": files}


def is_as_received(config: SourceConfig, raw: Path, receipt: Path) -> bool:
    """Whether raw files that a user brings are still those of the receipt: by names, sizes and times, and by content
    where these are others. What was downloaded is not looked at.

    Args:
        config: name and settings of the source.
        raw: the source's folder.
        receipt: the JSON file.

    Raises:
        SourceError: the folder lacks what the source needs.
    """
    if config.name not in BROUGHT_BY_HAND:
        return True
    if not receipt.is_file():
        return False
    files = open_source(config.name, config.settings).fetch(Path(), raw)
    return bool(json.loads(receipt.read_text(encoding="utf-8")).get("files") == files)


def require_as_received(config: SourceConfig, raw: Path, receipt: Path) -> None:
    """Refuse raw files that the receipt does not name: lineage would name others than those that were used.

    Raises:
        SourceError: they were changed since stage fetch looked at them.
    """
    if not is_as_received(config, raw, receipt):
        raise SourceError(
            f"{raw} is not what {receipt} names: files were added, removed or changed since stage fetch.",
            expected="raw files that stay as they are while stages run",
            hint="fusmae update",
        )
