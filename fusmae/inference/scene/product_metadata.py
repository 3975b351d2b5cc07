"""What a Sentinel-2 product states about its pixels in its file names, its XML metadata, or a STAC item."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fusmae.files import is_hidden
from fusmae.rasters.s2_offset import OFFSET, adds_offset, named_baseline

Level = Literal["L1C", "L2A"]

# Number of folders from a band's file up to the product's folder: GRANULE/L2A_…/IMG_DATA/R10m.
_MOST_FOLDERS = 5
# No product's metadata are larger than this; a larger file is something else.
_MAX_BYTES = 4 * 2**20
_MOST_ITEMS = 20
_XML_NAMES = ("MTD_MSIL2A.xml", "MTD_MSIL1C.xml")
# The XML is searched as text, so that no parser follows references to other documents.
_XML_BASELINE = re.compile(r"<PROCESSING_BASELINE>\s*(\d{2})\.(\d{2})\s*<")
_XML_OFFSET = re.compile(r"<(?:BOA|RADIO)_ADD_OFFSET\b[^>]*>\s*(-?\d+)\s*<")
_LEVEL = re.compile(r"MSI(L1C|L2A)|(?<![A-Za-z0-9])(L1C|L2A)(?![A-Za-z0-9])", re.I)


@dataclass(frozen=True)
class StatedOffset:
    """The offset that a product states for all its digital numbers.

    Attributes:
        offset: the number that was added to every digital number; 0 for none.
        source: where this is stated, in words for people.
    """

    offset: int
    source: str


def stated_offset(files: Sequence[Path]) -> StatedOffset | None:
    """The offset that is stated for some files; the product's XML counts before a STAC item, and both before names."""
    readers = (_in_xml, _in_item)
    for read in readers:
        for file in files:
            found = read(file)
            if found is not None:
                return found
    named = named_baseline(name for file in files for name in reversed(file.absolute().parts))
    if named is None:
        return None
    baseline, name = named
    return StatedOffset(OFFSET * adds_offset(baseline), f"processing baseline {_dotted(baseline)} in the name {name}")


def stated_level(files: Sequence[Path], bands: frozenset[str]) -> tuple[Level, str] | None:
    """The processing level that names or XML state, or that band B10 shows, and where it was found."""
    for file in files:
        for name in (file.name, *reversed(file.absolute().parts[-_MOST_FOLDERS - 1 : -1])):
            levels = {(match[1] or match[2]).upper() for match in _LEVEL.finditer(name)}
            if len(levels) == 1:
                return ("L1C" if levels == {"L1C"} else "L2A"), f"the name {name}"
        for path in _xml_files(file):
            return ("L1C" if "L1C" in path.name else "L2A"), str(path)
    # Atmospheric correction removes the cirrus band, so that only L1C has it.
    return ("L1C", "band B10 beside the others") if "B10" in bands else None


def _in_xml(file: Path) -> StatedOffset | None:
    for path in _xml_files(file):
        text = _text_of(path)
        offsets = {-int(number) for number in _XML_OFFSET.findall(text)}
        baseline = _XML_BASELINE.search(text)
        if len(offsets) == 1:
            return StatedOffset(offsets.pop(), str(path))
        if not offsets and baseline and not adds_offset(int(baseline[1] + baseline[2])):
            return StatedOffset(0, f"processing baseline {baseline[1]}.{baseline[2]} in {path}")
    return None


def _in_item(file: Path) -> StatedOffset | None:
    if not file.parent.is_dir():  # the file is in an archive
        return None
    for path in sorted(file.parent.glob("*.json"))[:_MOST_ITEMS]:
        properties = _properties_of(path)
        baseline = re.fullmatch(r"(\d{2})\.(\d{2})", str(properties.get("s2:processing_baseline")))
        if properties.get("earthsearch:boa_offset_applied") is True:
            return StatedOffset(0, f"earthsearch:boa_offset_applied in {path}")
        if baseline:
            offset = OFFSET * adds_offset(int(baseline[1] + baseline[2]))
            return StatedOffset(offset, f"processing baseline {baseline[1]}.{baseline[2]} in {path}")
    return None


def _properties_of(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(_text_of(path))
    except (ValueError, RecursionError):
        return {}
    properties = found.get("properties") if isinstance(found, dict) else None
    return properties if isinstance(properties, dict) else {}


def _xml_files(file: Path) -> Iterator[Path]:
    for folder in list(file.absolute().parents)[:_MOST_FOLDERS]:
        for name in _XML_NAMES:
            if (folder / name).is_file():
                yield folder / name


def _text_of(path: Path) -> str:
    try:
        if is_hidden(Path(path.name)) or path.stat().st_size > _MAX_BYTES:
            return ""
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _dotted(baseline: int) -> str:
    return f"{baseline // 100:02d}.{baseline % 100:02d}"
