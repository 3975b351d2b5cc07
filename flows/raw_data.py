"""Raw data and archives of a host: fetched once, and linked into every worktree with the same source."""

import hashlib
import json
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock

from fusmae.config.source import PROVIDED_BY_USER

_RAW, _DOWNLOADS, _RECEIPT = Path("data/raw"), Path("data/downloads"), Path("data/raw.json")


def share_raw_data(home: Path, folder: Path) -> None:
    """Link raw data into the worktree `folder`: those of the checkout `home` with the same source, or the host's."""
    source, receipt = _source(folder), home / _RECEIPT
    is_same = receipt.exists() and json.loads(receipt.read_text(encoding="utf-8")).get("source") == source
    # Files that a user provides are in the checkout, whatever source the checkout itself was run with.
    raw = home / _RAW if is_same or source["name"] in PROVIDED_BY_USER else _shared(home, source)
    _link(folder / _DOWNLOADS, home / _DOWNLOADS)
    _link(folder / _RAW / source["name"], raw / source["name"])


def fetch_lock(home: Path, folder: Path) -> FileLock:
    """The lock with which only one run of the host fetches this source: others wait, and then find the data there."""
    shared = _shared(home, _source(folder))
    shared.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(f"{shared}.lock")


def _source(folder: Path) -> dict[str, Any]:
    source: dict[str, Any] = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))["data"]["source"]
    return source


def _shared(home: Path, source: dict[str, Any]) -> Path:
    """Folder of a host for the raw data of a source with these settings."""
    digest = hashlib.sha256(json.dumps(source, sort_keys=True, default=str).encode()).hexdigest()
    return home / ".fusmae" / "raw" / f"{source['name']}-{digest[:12]}"


def _link(path: Path, target: Path) -> None:
    for folder in (path.parent, target):
        folder.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target.absolute(), target_is_directory=True)
