"""Checks that a Sentinel-2 scene has the offset that its reader was given, and the level of the training data.

Pixels are evidence, and so is what the product states in its file names, its XML metadata, or a STAC item.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from fusmae.errors import InputError
from fusmae.files import is_hidden
from fusmae.inference.scene.sample import SampledTile
from fusmae.inference.scene.scene import Scene
from fusmae.rasters.s2_offset import (
    FLOOR_QUANTILE,
    OFFSET,
    StatedOffset,
    dark_level,
    is_overshot_water,
    judge_floors,
    named_baseline,
    offset_by_properties,
    offset_of_baseline,
)

# A band with fewer pixels in a tile has no dark floor.
_MIN_PIXELS = 50
# Only cloud and snow are brighter than this in their darkest pixels; they give no evidence about an offset.
_CLOUD_DN = 2500.0
# Shares of the tiles that give evidence about the offset.
_MIN_DARK_SHARE, _MIN_BRIGHT_SHARE = 0.2, 0.5
_MIN_MIXED_TILES, _MIN_MIXED_SHARE = 2, 0.1
_MIN_STEP_SHARE = 0.85
# Two parts of a scene that differ only by the offset differ by 1000 in the band where they differ least, and by not
# much more in most bands. Sand and water differ by far more; snow and plants are equal in some bands.
_LEAST_STEP_QUANTILE = 0.2  # one band of a few pixels may be off
_MIXED_STEP_DN, _MAX_MIXED_STEP_DN = (600.0, 1400.0), 2200.0

_Finding = Literal["offset", "none", "unknown", "mixed"]

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


class _Item(BaseModel):
    """A STAC item, or any other JSON with properties."""

    properties: dict[str, Any]


def check_product(modality: str, tiles: Sequence[SampledTile], scene: Scene) -> list[str]:
    """Warnings about what pixels alone can't show of a scene, whose tiles are as they are in its files.

    Raises:
        InputError: the scene has another offset than its reader was given; the error names the option that corrects it.
    """
    return [text for text in (_check_offset(modality, tiles, scene), _check_level(modality, scene)) if text]


def _check_offset(modality: str, tiles: Sequence[SampledTile], scene: Scene) -> str:
    stated = scene.stated_offset if scene.item else stated_offset(scene.local_files)
    option, told = f"--offset {modality}=", scene.reading.offset
    names = list(dict.fromkeys(name for tile in tiles for name in tile.bands))
    floors = _floors(tiles, names)
    verdicts = np.where(dark_level(floors) > _CLOUD_DN, 0, judge_floors(floors))
    finding = _finding(verdicts, floors)
    says_none = stated is not None and not stated.offset
    known = "" if stated is None else f"; {stated.source} says {stated.offset or 'none'}"
    got = _described(names, floors) + known
    if told == 0:
        is_doubtful = finding in ("offset", "mixed") and not says_none
        return f"The {modality} scene looks as if it held an offset of {OFFSET} ({got})" if is_doubtful else ""
    if finding == "mixed":
        raise InputError(
            f"A part of the {modality} scene holds the offset of {OFFSET} of processing baselines from 04.00 on, "
            "and a part does not.",
            got=_where(tiles, verdicts) + known,
            expected="one offset in the whole scene",
            hint=f"take {OFFSET} off the products of baseline 04.00 and later before they are joined; if no part holds "
            f"it (a cloud may look like this), {option}0",
        )
    if told is None:
        if finding == "none" or says_none:
            return ""
        if stated is not None:
            raise InputError(
                f"The {modality} scene holds the offset of {stated.offset} that processing baselines from 04.00 on "
                "add.",
                got=got,
                expected="no offset, or that it is said",
                hint=f"{option}{stated.offset} takes it off; {option}0 if it was taken off before",
            )
        if finding == "offset":
            raise InputError(
                f"The {modality} scene looks as if it held the offset of {OFFSET} that processing baselines from 04.00 "
                "on add.",
                got=got,
                expected="some pixels nearly black in some bands",
                hint=f"{option}1000 takes it off if the product's baseline is 04.00 or later (its name has _N0400_ or "
                f"a higher number); {option}0 if it is earlier, or was taken off: sand and snow look alike",
            )
        return (
            f"Whether the {modality} scene holds the offset of {OFFSET} can't be known from its pixels ({got}): "
            f"{option}{OFFSET} if the product's baseline is 04.00 or later (_N0400_ in its name) and it was not taken "
            f"off, {option}0 if not. Taken as without"
        )
    if finding == "none" or (finding == "unknown" and says_none):
        raise InputError(
            f"The {modality} scene does not hold an offset of {told}.",
            got=got,
            expected=f"hardly a pixel far below {told}",
            hint=("leave out --offset" if scene.item is None else f"{option}0 if the item is wrong")
            + "; if its dark pixels are nodata, say so: rio edit-info FILE --nodata VALUE",
        )
    if says_none:
        return f"The {modality} scene may hold no offset ({got}): {told} is taken off all the same"
    if finding == "unknown" and stated is None:
        return (
            f"Whether the {modality} scene holds an offset can't be known from its pixels ({got}): {told} is taken off"
        )
    return ""


def _floors(tiles: Sequence[SampledTile], names: Sequence[str]) -> NDArray[np.float32]:
    """Dark floors `[tiles, C]`; NaN for a band without contrast or with too few pixels."""
    return np.array([[_floor(tile.bands.get(name)) for name in names] for tile in tiles], np.float32)


def _floor(pixels: NDArray[np.float32] | None) -> float:
    if pixels is None or pixels.size < _MIN_PIXELS or pixels.min() == pixels.max():
        return np.nan
    return float(np.quantile(pixels, FLOOR_QUANTILE))


def _finding(verdicts: NDArray[np.int8], floors: NDArray[np.float32]) -> _Finding:
    bright, dark = verdicts == 1, verdicts == -1
    num_bright, num_dark = int(bright.sum()), int(dark.sum())
    num_judged = int((dark_level(floors) <= _CLOUD_DN).sum())
    if num_dark == 0:
        return "offset" if num_bright and num_bright >= _MIN_BRIGHT_SHARE * num_judged else "unknown"
    num_least = max(_MIN_MIXED_TILES, _MIN_MIXED_SHARE * (num_bright + num_dark))
    # Light and haze change gradually; an offset changes from one pixel to the next.
    is_step = num_bright + num_dark >= _MIN_STEP_SHARE * num_judged
    if is_step and min(num_bright, num_dark) >= num_least and _differ_by_offset(floors[bright], floors[dark]):
        return "mixed"
    return "none" if num_dark >= _MIN_DARK_SHARE * (num_bright + num_dark) else "unknown"


def _differ_by_offset(bright: NDArray[np.float32], dark: NDArray[np.float32]) -> bool:
    """Whether bright and dark tiles differ by the offset, and not by what covers the ground."""
    if is_overshot_water(bright).mean() >= _MIN_BRIGHT_SHARE:
        return True
    has_both = np.isfinite(bright).any(axis=0) & np.isfinite(dark).any(axis=0)
    if not has_both.any():
        return False
    steps = np.nanmedian(bright[:, has_both], axis=0) - np.nanmedian(dark[:, has_both], axis=0)
    low, high = _MIXED_STEP_DN
    return bool(low <= np.quantile(steps, _LEAST_STEP_QUANTILE) <= high and np.median(steps) <= _MAX_MIXED_STEP_DN)


def _described(names: Sequence[str], floors: NDArray[np.float32]) -> str:
    """`99 % of a tile's pixels are above 1,050 in B12, 1,080 in B04, 1,100 in B02, the darkest bands`."""
    columns = zip(names, floors.T, strict=True)
    lowest = sorted((float(np.nanmedian(column)), name) for name, column in columns if np.isfinite(column).any())
    shown = ", ".join(f"{level:,.0f} in {name}" for level, name in lowest[:3])
    return f"{100 * (1 - FLOOR_QUANTILE):g} % of a tile's pixels are above {shown}, the darkest bands"


def _where(tiles: Sequence[SampledTile], verdicts: NDArray[np.int8]) -> str:
    parts = []
    for verdict, text in ((1, "as with the offset"), (-1, "as without")):
        corners = np.array([(t.left, t.top) for t, found in zip(tiles, verdicts, strict=True) if found == verdict])
        (left, bottom), (right, top) = corners.min(axis=0), corners.max(axis=0)
        parts.append(
            f"{len(corners)} of {len(tiles)} tiles {text}, their upper left corners from ({left:.0f}, {top:.0f}) to "
            f"({right:.0f}, {bottom:.0f})"
        )
    return "; ".join(parts)


def _check_level(modality: str, scene: Scene) -> str:
    """Warn about another level than the training data's: L1C if the model takes B10, else L2A is assumed."""
    if scene.item is None:
        stated = stated_level(scene.local_files, scene.names)
    else:
        properties = scene.item.properties
        texts = (properties.get("processing:level"), properties.get("s2:product_uri"), scene.item.id)
        stated = next(filter(None, (_level_in(str(text), "the item says") for text in texts)), None)
    if stated is None or (stated[0] == "L1C") == ("B10" in scene.bands):
        return ""
    level, source = stated
    taken = "L2A (no B10 among its bands)" if level == "L1C" else "L1C (B10 is among its bands)"
    return (
        f"The {modality} scene is of level {level} ({source}), but the model seems to have learned from {taken}: "
        "atmosphere makes other numbers of the same ground; bring that level if there is one"
    )


def stated_offset(files: Sequence[Path]) -> StatedOffset | None:
    """The offset that is stated for some files; the product's XML counts before a STAC item, and both before names."""
    if found := next(filter(None, (read(file) for read in (_in_xml, _in_item) for file in files)), None):
        return found
    named = named_baseline(name for file in files for name in reversed(file.absolute().parts))
    return named and offset_of_baseline(named[0], f"the name {named[1]}")


def stated_level(files: Sequence[Path], bands: frozenset[str]) -> tuple[str, str] | None:
    """The processing level that names or XML state, or that band B10 shows, and where it was found."""
    for file in files:
        for name in (file.name, *reversed(file.absolute().parts[-_MOST_FOLDERS - 1 : -1])):
            if level := _level_in(name, "the name"):
                return level
        for path in _xml_files(file):
            return ("L1C" if "L1C" in path.name else "L2A"), str(path)
    # Atmospheric correction removes the cirrus band, so that only L1C has it.
    return ("L1C", "band B10 beside the others") if "B10" in bands else None


def _level_in(text: str, where: str) -> tuple[str, str] | None:
    levels = {"".join(groups).upper() for groups in _LEVEL.findall(text)}
    return (levels.pop(), f"{where} {text}") if len(levels) == 1 else None


def _in_xml(file: Path) -> StatedOffset | None:
    for path in _xml_files(file):
        text = _text_of(path)
        offsets = {-int(number) for number in _XML_OFFSET.findall(text)}
        if len(offsets) == 1:
            return StatedOffset(offsets.pop(), str(path))
        baseline = _XML_BASELINE.search(text)
        if not offsets and baseline and not (found := offset_of_baseline(int(baseline[1] + baseline[2]), path)).offset:
            return found
    return None


def _in_item(file: Path) -> StatedOffset | None:
    for path in sorted(file.parent.glob("*.json"))[:_MOST_ITEMS]:
        try:
            properties = _Item.model_validate_json(_text_of(path)).properties
        except ValueError:
            continue
        if found := offset_by_properties(properties, place=path):
            return found
    return None


def _xml_files(file: Path) -> Iterator[Path]:
    paths = (folder / name for folder in list(file.absolute().parents)[:_MOST_FOLDERS] for name in _XML_NAMES)
    return filter(Path.is_file, paths)


def _text_of(path: Path) -> str:
    try:
        if is_hidden(Path(path.name)) or path.stat().st_size > _MAX_BYTES:
            return ""
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
