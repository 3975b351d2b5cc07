"""Raw data and archives of a host: fetched once, and linked into every worktree with the same source."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock

from fusmae.config.source import PROVIDED_BY_USER

_RAW, _DOWNLOADS, _RECEIPT = Path("data/raw"), Path("data/downloads"), Path("data/raw.json")
_SHARED = Path(".fusmae/raw")


def share_raw_data(home: Path, folder: Path) -> None:
    """Link raw data into a worktree: that of the checkout if it has the same source, else that shared on the host.

    Args:
        home: folder of the checkout.
        folder: folder of the worktree.
    """
    (home / _DOWNLOADS).mkdir(parents=True, exist_ok=True)
    _link(folder / _DOWNLOADS, home / _DOWNLOADS)
    source = _source(folder)
    receipt = home / _RECEIPT
    is_same = receipt.exists() and json.loads(receipt.read_text(encoding="utf-8")).get("source") == source
    # Files that a user provides are in the checkout, whatever source the checkout itself was run with.
    is_same = is_same or source["name"] in PROVIDED_BY_USER
    raw = home / _RAW if is_same else home / _SHARED / _key(source)
    (raw / source["name"]).mkdir(parents=True, exist_ok=True)
    _link(folder / _RAW / source["name"], raw / source["name"])


@contextmanager
def fetching_alone(home: Path, folder: Path) -> Iterator[None]:
    """Make sure that only one run of the host fetches this source: others wait, and then find the data there."""
    lock = home / _SHARED / f"{_key(_source(folder))}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        yield


def _source(folder: Path) -> dict[str, Any]:
    source: dict[str, Any] = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))["data"]["source"]
    return source


def _key(source: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(source, sort_keys=True, default=str).encode()).hexdigest()
    return f"{source['name']}-{digest[:12]}"


def _link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target.absolute(), target_is_directory=True)
