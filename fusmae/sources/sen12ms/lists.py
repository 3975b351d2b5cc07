"""SEN12MS's official lists, the tiles that they name, and the split of each scene."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from fusmae.data.index import Split
from fusmae.errors import SourceError
from fusmae.runs.utf8 import read_utf8

TRAIN_LIST, TEST_LIST = "train_list.txt", "test_list.txt"

_TILE = re.compile(
    r"(?P<folder>ROIs\d{4}_(?P<season>spring|summer|fall|winter))_s2_(?P<scene>\d+)_p(?P<patch>\d+)\.tif"
)
_EXAMPLE = "like ROIs1868_summer_s2_19_p30.tif"


class Tile(NamedTuple):
    """One triplet of S1, S2 and land cover."""

    folder: str  # name of the season's folder, such as "ROIs1868_summer"
    season: str  # spring, summer, fall or winter
    scene: int  # number of the scene; numbers start again in each season
    patch: int  # number of the tile within the scene

    @property
    def place(self) -> str:
        """Name of the scene, whose tiles are one place because they overlap by half."""
        return f"{self.folder}_{self.scene}"

    def name(self, kind: str) -> str:
        """Return the file name of one part of the triplet: `s1`, `s2` or `lc`."""
        return f"{self.folder}_{kind}_{self.scene}_p{self.patch}.tif"

    def path(self, kind: str) -> str:
        """Return the path of the same file within the dataset."""
        return f"{self.folder}/{kind}_{self.scene}/{self.name(kind)}"


def read_tiles(raw: Path, seasons: Collection[str], validation_share: float) -> dict[Tile, Split]:
    """Return every tile that the official lists name in these seasons, with its split.

    Test is the official hold-out. Validation consists of whole scenes of the train list. A scene in both lists (there
    is none in the official lists) goes to test completely, so that no test data leak into training.

    Raises:
        SourceError: a list is absent, or a line is not the name of an S2 tile.
    """
    train, test = (
        {tile for tile in _read_list(raw / name) if tile.season in seasons} for name in (TRAIN_LIST, TEST_LIST)
    )
    held_out = {tile.place for tile in test}
    carved = validation_scenes((tile for tile in train if tile.place not in held_out), validation_share)
    return {
        tile: "test" if tile.place in held_out else "validation" if tile.place in carved else "train"
        for tile in sorted(train | test)
    }


def validation_scenes(tiles: Iterable[Tile], share: float) -> set[str]:
    """Return the places of the scenes that become the validation split.

    They are the scenes of each season whose names have the smallest hashes. So every season is represented, and the
    choice depends neither on the order of the list nor on the other seasons in use.
    At least one scene of each season is chosen, but never the only one.
    """
    scenes: dict[str, set[str]] = defaultdict(set)
    for tile in tiles:
        scenes[tile.season].add(tile.place)
    chosen: set[str] = set()
    for places in scenes.values():
        count = min(max(round(share * len(places)), 1), len(places) - 1)
        chosen.update(sorted(places, key=lambda place: hashlib.sha256(place.encode()).hexdigest())[:count])
    return chosen


def _read_list(path: Path) -> list[Tile]:
    if not path.is_file():
        raise SourceError(f"There is no list {path}.", hint="dvc repro -f -s fetch")
    tiles = []
    for number, line in enumerate(map(str.strip, read_utf8(path).splitlines()), start=1):
        if found := _TILE.fullmatch(line):
            tiles.append(Tile(found["folder"], found["season"], int(found["scene"]), int(found["patch"])))
        elif line:
            hint = f"remove {path.name}, then `dvc repro -f -s fetch`"
            raise SourceError(f"{path}, line {number} names no S2 tile.", got=line[:80], expected=_EXAMPLE, hint=hint)
    return tiles
