"""The GeoTIFFs of a folder, found by key, whatever Unicode form and file extension their names have."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from fusmae.errors import PairError, SourceError
from fusmae.files import visible_files
from fusmae.runs.utf8 import composed
from fusmae.sources.folder.pairs_table import LAYOUT_HINT

_ENDINGS = (".tif", ".tiff")


@lru_cache(maxsize=8)
def _listing(folder: Path, _changed_ns: int) -> Mapping[str, tuple[Path, ...]]:
    files: dict[str, list[Path]] = defaultdict(list)
    for path in visible_files(folder, _ENDINGS):
        files[composed(path.with_suffix("").relative_to(folder).as_posix())].append(path)
    return {key: tuple(paths) for key, paths in files.items()}


def modality_folders(raw: Path) -> list[Path]:
    """Return the folders in `raw` that hold GeoTIFFs, in the order of their names: each is named after a modality."""
    return [folder for folder in sorted(raw.glob("[!.]*")) if rasters_by_key(folder)]


def rasters_by_key(folder: Path) -> Mapping[str, tuple[Path, ...]]:
    """Return every GeoTIFF below a folder by key: its relative path without extension, in composed form (NFC).

    Hidden files are ignored. A listing is cached until the folder changes.
    """
    return _listing(folder, folder.stat().st_mtime_ns) if folder.is_dir() else {}


def find_raster(folder: Path, key: str) -> Path | None:
    """Return the GeoTIFF of a key; None where there is none.

    Raises:
        SourceError: several files have this key, so that the meant one is unknown.
    """
    found = rasters_by_key(folder).get(composed(key), ())
    if len(found) > 1:
        raise SourceError(
            f"{folder} has {len(found)} files for the key {key!r}.",
            got=", ".join(ascii(path.relative_to(folder).as_posix()) for path in found),
            expected="one; names that look the same count as the same",
            hint="remove or rename all but one; then `dvc repro -f -s fetch`",
        )
    # Listings don't follow links to folders, so a file in a linked folder is looked up directly.
    return found[0] if found else exact if (exact := folder / f"{key}.tif").is_file() else None


def absent_raster(folder: Path, key: str) -> PairError:
    """Return the error about a key without a file; it names files with similar names."""
    names = rasters_by_key(folder)
    alike = [path for name, paths in names.items() if _folded(name) == _folded(key) for path in paths]
    named = f"{alike[0]} is there: give the file and the key the same name" if alike else ""
    return PairError(
        "incomplete",
        f"Pair {key} lacks a file: {folder / key}.tif is absent.",
        got=", ".join(path.relative_to(folder).as_posix() for path in alike) or None,
        hint="; ".join(filter(None, [named, LAYOUT_HINT])),
    )


def _folded(name: str) -> str:
    """Remove from a name what is often mistyped: upper case, spaces, the file extension."""
    stem = re.sub(r"\.tiff?$", "", unicodedata.normalize("NFKC", name).casefold())
    return re.sub(r"[\s_-]+", "_", stem)
