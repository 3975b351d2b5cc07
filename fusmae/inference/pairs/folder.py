"""The folder of pairs that scenes are cut into: what it says of itself, and what it holds.

`pairs.csv` and the rasters are those of docs/folder.md. `folder.yaml` is the section `data` of params.yaml, which
`-S data=folder` takes from there. `tiles.json` says how tiles were cut, and counts them; `tiles.md` is the same for
people.
"""

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import yaml
from pydantic import BaseModel, ValidationError
from rasterio.crs import CRS

from fusmae.config.data import DataConfig
from fusmae.config.params import checked
from fusmae.config.source import FOLDER_DESCRIPTION as DESCRIPTION
from fusmae.config.task import Task
from fusmae.data.index import SPLITS, Split
from fusmae.data.pixels import NO_CLASS
from fusmae.errors import InputError
from fusmae.files import write_json, write_text
from fusmae.inference.pairs.blocks import PlacedTiles
from fusmae.modalities import Modality
from fusmae.runs.utf8 import read_utf8
from fusmae.sources import open_source
from fusmae.sources.folder.pairs_table import TABLE, PairRow, read_pairs_table

TILES, TILES_FOR_PEOPLE = "tiles.json", "tiles.md"
_SHARD_PAIRS = 1000


class CutScene(BaseModel):
    """One scene that was cut."""

    name: str  # name that the keys of its pairs begin with
    date: str  # time of the acquisition; "" where it is not known
    files: list[str]  # names of its files
    num_pairs: int  # number of pairs
    left_out: dict[str, int]  # number of tiles that are no pairs, by reason
    crs: str  # CRS of its tiles, as WKT
    left: float  # x of the first tile's left edge
    top: float  # y of the first tile's upper edge


class Tiles(BaseModel):
    """How the tiles of a folder were cut."""

    tile_m: int
    block_m: int
    gap_m: int
    seed: int
    shares: list[float]  # shares of the blocks by split
    scenes: list[CutScene]


@dataclass(frozen=True)
class Content:
    """What a folder holds that `fusmae tile` has filled."""

    tiles: Tiles  # how its tiles were cut
    task: Task  # what the labels are; classes in the order of a label vector
    modalities: Mapping[str, Modality]  # bands of the pairs, by modality
    rows: Sequence[PairRow]  # the pairs

    @property
    def placed(self) -> list[PlacedTiles]:
        """The tiles of each scene that was cut, by the numbers in the keys of its pairs."""
        found = []
        for scene in self.tiles.scenes:
            own = [row for row in self.rows if row.key.rsplit("_", 2)[0] == scene.name]
            numbers = np.array([row.key.rsplit("_", 2)[1:] for row in own], np.float64).reshape(-1, 2)
            metres = numbers * self.tiles.tile_m
            splits = np.array([SPLITS.index(cast(Split, row.split)) for row in own], np.int8)
            place = CRS.from_wkt(scene.crs)
            found.append(
                PlacedTiles(place, scene.left + metres[:, 1], scene.top - metres[:, 0], splits, self.tiles.tile_m)
            )
        return found


def read_content(folder: Path) -> Content | None:
    """What a folder holds; None where it has no pairs.

    Raises:
        InputError: its pairs were not cut by this command.
        SourceError: its table can't be used.
        ConfigError: its description can't be used.
    """
    if not (folder / TABLE).is_file():
        return None
    try:
        tiles = Tiles.model_validate_json(read_utf8(folder / TILES))
        values = yaml.safe_load(read_utf8(folder / DESCRIPTION))
    except (FileNotFoundError, ValidationError) as error:
        raise InputError(
            f"{folder} holds pairs that `fusmae tile` did not cut.",
            got=f"{TABLE} without {DESCRIPTION} and {TILES} of `fusmae tile`",
            expected="an empty folder, or one that `fusmae tile` has filled",
            hint="--out NEW_FOLDER; or move these pairs away",
        ) from error
    data = checked(DataConfig, values, str(folder / DESCRIPTION))
    task = open_source(data.source.name, data.source.settings, kind=data.kind).task
    return Content(
        tiles=tiles, task=task, modalities=dict(data.modalities), rows=read_pairs_table(folder / TABLE, task)
    )


def write_content(folder: Path, content: Content) -> None:
    """Write all that a folder says of its pairs, the table last: without it, the folder has no pairs."""
    head = "# The section `data` of params.yaml that `-S data=folder` takes; `fusmae tile` wrote it.\n"
    section = yaml.safe_dump(data_section(content), sort_keys=False, allow_unicode=True)
    write_text(folder / DESCRIPTION, head + section)
    write_json(folder / TILES, content.tiles.model_dump() | counts_of(content))
    write_text(folder / TILES_FOR_PEOPLE, _for_people(content))
    text = StringIO()
    table = csv.writer(text, lineterminator="\n")
    is_value = content.task.value is not None
    table.writerow(["key", "value" if is_value else "labels", "split", "place", "date"])
    for row in content.rows:
        date = row.date.isoformat().removesuffix("+00:00") if row.date.year > 1970 else ""
        number = "" if row.value is None else f"{row.value:.9g}"
        table.writerow([row.key, number if is_value else "|".join(row.labels), row.split, row.place, date])
    write_text(folder / TABLE, text.getvalue())


def data_section(content: Content) -> dict[str, Any]:
    """The section `data` of params.yaml, as plain values.

    Raises:
        ConfigError: params.yaml would refuse it.
    """
    source: dict[str, Any] = {"name": "folder", "classes": list(content.task.classes)}
    if content.task.kind == "segmentation":
        source |= {"class_values": [], "ignore_values": [NO_CLASS]}
    if content.task.value is not None:
        source |= {"value": content.task.value.model_dump(mode="json")}
    data = {
        "kind": content.task.kind,
        "source": {**source, "s2_offset": 0, "units": {}},
        "tile_m": content.tiles.tile_m,
        "shard_pairs": _SHARD_PAIRS,
        "modalities": {key: modality.model_dump(mode="json") for key, modality in content.modalities.items()},
        "tolerated": {},
    }
    checked(DataConfig, data, DESCRIPTION)
    return data


def counts_of(content: Content) -> dict[str, Any]:
    """Numbers of pairs and places by split, of pairs without a label, of pairs by class and split, and mean values."""
    labels = Counter((label, row.split) for row in content.rows for label in row.labels)
    values = [(row.split, row.value) for row in content.rows if row.value is not None]
    means = {split: [value for of, value in values if of == split] for split in SPLITS}
    return {
        "pairs": _by_split(Counter(row.split for row in content.rows)),
        "places": _by_split(Counter(split for _, split in {(row.place, row.split) for row in content.rows})),
        "without_label": _by_split(Counter(row.split for row in content.rows if not row.labels and row.value is None)),
        "labels": {name: {split: labels[name, split] for split in SPLITS} for name in content.task.classes},
        **(
            {"mean_value": {split: float(np.mean(found)) if found else None for split, found in means.items()}}
            if values
            else {}
        ),
    }


def count_rows(content: Content) -> list[tuple[str, ...]]:
    """The counts as the rows of a table for people: what is counted, its number by split, and the sum."""
    counts = counts_of(content)
    named: list[tuple[str, Mapping[str, int]]] = [("pairs", counts["pairs"]), ("places", counts["places"])]
    named += counts["labels"].items()
    if any(counts["without_label"].values()):
        named.append(("without a label", counts["without_label"]))
    rows = [
        (name, *(f"{numbers[split]:,}" for split in SPLITS), f"{sum(numbers.values()):,}") for name, numbers in named
    ]
    if content.task.value is not None and "mean_value" in counts:
        means = ["–" if (mean := counts["mean_value"][split]) is None else f"{mean:.4g}" for split in SPLITS]
        overall = np.mean([row.value for row in content.rows if row.value is not None])
        rows.append((f"mean {content.task.value.title}", *means, f"{overall:.4g}"))
    return rows


def _by_split(counts: Mapping[str, int]) -> dict[str, int]:
    return {split: counts.get(split, 0) for split in SPLITS}


def _for_people(content: Content) -> str:
    tiles, shares = content.tiles, ", ".join(f"{share:.0%}" for share in content.tiles.shares)
    lines = [
        "# Pairs cut by `fusmae tile`",
        "",
        f"Tiles of {tiles.tile_m} m; {', '.join(content.modalities)}. Blocks of {tiles.block_m} m belong to one split "
        f"each ({shares} of them to {', '.join(SPLITS)}); tiles of two splits are at least {tiles.gap_m} m apart.",
        "",
        *_table(("", *SPLITS, "all"), count_rows(content)),
        "",
        "| scene | date | pairs | left out |",
        "|---|---|---:|---|",
    ]
    for scene in tiles.scenes:
        left_out = ", ".join(f"{reason} {number:,}" for reason, number in scene.left_out.items() if number)
        lines.append(f"| {_cell(scene.name)} | {scene.date or 'unknown'} | {scene.num_pairs:,} | {left_out or '–'} |")
    return "\n".join(lines) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    marks = ["---", *["---:"] * (len(head) - 1)]
    return [f"| {' | '.join(map(_cell, row))} |".replace("|  |", "| |") for row in (head, marks, *rows)]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def work_text(settings: Mapping[str, Any]) -> str:
    """Settings as a text that is equal for equal settings."""
    return json.dumps(settings, sort_keys=True, default=str)
