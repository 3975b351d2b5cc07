"""Scenes cut into pairs to train on: options become settings, and the result a table in the terminal."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fusmae.cli.scene_files import SceneFiles
from fusmae.config.params import Config
from fusmae.config.task import Kind, Value
from fusmae.data.index import SPLITS
from fusmae.errors import InputError
from fusmae.inference.pairs.cut import Cut, cut_pairs
from fusmae.inference.pairs.folder import TILES_FOR_PEOPLE, count_rows, counts_of
from fusmae.inference.pairs.label_file import LabelFile
from fusmae.inference.pairs.settings import CutSettings
from fusmae.modalities import BandGroup, Modality, modality_inputs
from fusmae.runs.utf8 import composed, read_utf8

_STANDARD_OUT = Path("data/raw/folder")


def cut_scenes(
    config: Config,
    files: SceneFiles,
    out: Path,
    *,
    name: str,
    side: int | None,
    block: int | None,
    gap: int | None,
    shares: str,
    without: str,
    labels: LabelFile | None,
    kind: Kind | None,
    value: Value | None,
    max_nodata: float,
    min_share: float,
    keeps_unlabelled: bool,
    date: datetime | None,
    appends: bool,
    is_checked: bool,
) -> None:
    """Cut a scene into pairs and print what the folder holds; see the options of `fusmae tile`.

    Raises:
        InputError: scenes, labels or options can't be used.
        StorageError: the disk is full.
    """
    settings = CutSettings(
        name=_checked_name(name) if name else "",
        modalities=_without(config.data.modalities, without),
        tile_m=side or config.data.tile_m,
        seed=config.seed,
        block_m=block,
        gap_m=gap,
        shares=_parsed_shares(shares),
        max_nodata=max_nodata,
        min_share=min_share,
        labels=labels,
        kind=kind,
        value=value,
        keeps_unlabelled=keeps_unlabelled,
        taken=date.replace(tzinfo=date.tzinfo or UTC) if date else None,
        appends=appends,
        is_checked=is_checked,
    )
    if files.search:
        files = files.with_found(modality_inputs(settings.modalities, settings.tile_m))
    _print(cut_pairs(files.paths, files.readings, out, settings, files.bbox), out, is_first=not appends)


def class_names(given: Sequence[str]) -> dict[str, str]:
    """Class names by value, from texts such as `1=water`, or from JSON files of such values.

    Raises:
        InputError: a text is neither, or a value has two names.
    """
    found: dict[str, str] = {}
    for text in given:
        value, _, name = text.partition("=")
        if text.lower().endswith(".json"):
            named = _in_json(Path(text))
        elif value.strip() and name.strip():
            named = {value.strip(): name.strip()}
        else:
            raise InputError("--classes can't be used.", got=text, expected="VALUE=NAME, such as 1=water, or FILE.json")
        if twice := sorted(found.keys() & named.keys()):
            raise InputError("--classes names a value twice.", got=twice[0], expected="each value once")
        found |= {value: composed(name) for value, name in named.items()}
    return found


def _in_json(path: Path) -> dict[str, str]:
    try:
        values = json.loads(read_utf8(path, raises=InputError))
    except (FileNotFoundError, json.JSONDecodeError) as error:
        raise InputError(f"--classes {path} can't be read: {error}.", expected='JSON such as {"1": "water"}') from error
    if not isinstance(values, dict) or not all(isinstance(name, str) and name.strip() for name in values.values()):
        raise InputError(f"--classes {path} holds no names.", expected='JSON such as {"1": "water", "2": "forest"}')
    return values


def _without(modalities: Mapping[str, Modality], names: str) -> dict[str, Modality]:
    """Modalities without some bands, whose names are separated by commas."""
    left_out = {name.strip() for name in names.split(",") if name.strip()}
    known = {band for modality in modalities.values() for band in modality.bands}
    if unknown := sorted(left_out - known):
        raise InputError(
            f"--without names {', '.join(unknown)}, which no pair would have.",
            expected=f"some of {', '.join(sorted(known))}, as data.modalities in params.yaml has them",
        )
    found = {}
    for key, modality in modalities.items():
        groups = [
            BandGroup(gsd_m=group.gsd_m, bands=bands)
            for group in modality.groups
            if (bands := tuple(band for band in group.bands if band not in left_out))
        ]
        if groups:
            found[key] = Modality(units=modality.units, groups=tuple(groups))
    return found


def _parsed_shares(text: str) -> tuple[float, ...]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != len(SPLITS) or min(numbers) <= 0 or not 0 < sum(numbers) < float("inf"):
        raise InputError(
            "--shares can't be used.",
            got=text,
            expected=f"three numbers above 0, of {', '.join(SPLITS)}: 70,15,15",
        )
    return tuple(number / sum(numbers) for number in numbers)


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise InputError(
            "--name can't be a part of file names.", got=repr(name), expected="letters, digits, dots, - and _"
        )
    return name


def _print(cut: Cut, out: Path, *, is_first: bool) -> None:
    scene, content, console = cut.scene, cut.content, Console()
    left_out = [f"{number:,} {reason}" for reason, number in scene.left_out.items() if number]
    lines = [
        f"{scene.num_pairs:,} pairs of {content.tiles.tile_m} m from {scene.name}"
        + (f"; no pairs: {', '.join(left_out)}" if left_out else ""),
        *cut.notes,
    ]
    if not scene.date:
        lines.append("its date is unknown: no file name has one, and --date was not given")
    table = Table("", *SPLITS, "all", title=f"{out} holds", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in count_rows(content):
        table.add_row(*row)
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
    console.print(table)
    for path in (cut.picture, out / TILES_FOR_PEOPLE):
        console.print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)
    if empty := [split for split, number in counts_of(content)["pairs"].items() if not number]:
        advice = (
            f"no pair is in {', '.join(empty)}, which training needs: cut other scenes, too (--append), or cut anew "
        )
        advice += "with smaller blocks (--block) or another seed in params.yaml"
        console.print(advice, markup=False, highlight=False, soft_wrap=True)
    elif out == _STANDARD_OUT:
        # DVC does not watch raw files: it would see new ones only if classes are new, too.
        command = "next: dvc exp run -S data=folder examine"
        command = command if is_first else "next: dvc exp run -f -S data=folder fetch, then dvc repro examine"
        console.print(command, markup=False, highlight=False, soft_wrap=True)
