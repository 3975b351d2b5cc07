"""SEN12MS's official lists, the tiles they name, and the split that each scene gets."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fusmae.data.index import Split
from fusmae.errors import SourceError
from fusmae.runs.utf8 import read_utf8

TRAIN_LIST, TEST_LIST = "train_list.txt", "test_list.txt"

_TILE = re.compile(
    r"(?P<folder>ROIs\d{4}_(?P<season>spring|summer|fall|winter))_s2_(?P<scene>\d+)_p(?P<patch>\d+)\.tif"
)
_EXAMPLE = "like ROIs1868_summer_s2_19_p30.tif"


@dataclass(frozen=True, order=True, slots=True)
class Tile:
    """One triplet of S1, S2 and land cover.

    Attributes:
        folder: of its season: "ROIs1868_summer".
        season: spring, summer, fall or winter.
        scene: number of the scene; numbers start anew in each season.
        patch: number of the tile within the scene.
    """

    folder: str
    season: str
    scene: int
    patch: int

    @property
    def place(self) -> str:
        """The scene: its tiles overlap by half, so they are of one place."""
        return f"{self.folder}_{self.scene}"

    def name(self, kind: str) -> str:
        """File name of one of the triplet: `s1`, `s2` or `lc`."""
        return f"{self.folder}_{kind}_{self.scene}_p{self.patch}.tif"

    def path(self, kind: str) -> str:
        """The same file's path within the dataset."""
        return f"{self.folder}/{kind}_{self.scene}/{self.name(kind)}"


def read_tiles(raw: Path, seasons: Collection[str], validation_share: float) -> dict[Tile, Split]:
    """Every tile that the official lists name in these seasons, with its split.

    Test is the official hold-out. Validation is carved from the train list by scene. A scene that stands in
    both lists (in the official ones none does) goes whole to test: that can't leak what is measured.

    Raises:
        SourceError: a list is absent, or a line names no S2 tile.
    """
    train, test = (
        {tile for tile in _read_list(raw / name) if tile.season in seasons} for name in (TRAIN_LIST, TEST_LIST)
    )
    held_out = {tile.place for tile in test}
    carved = validation_scenes((tile for tile in train if tile.place not in held_out), validation_share)
    splits: dict[Tile, Split] = {}
    for tile in sorted(train | test):
        if tile.place in held_out:
            splits[tile] = "test"
        else:
            splits[tile] = "validation" if tile.place in carved else "train"
    return splits


def validation_scenes(tiles: Iterable[Tile], share: float) -> set[str]:
    """Places of the scenes that become the validation split.

    In each season the scenes with the smallest hashes of their names: so every season is in it, and which
    ones they are depends neither on the order of the list nor on which other seasons are chosen.

    Args:
        tiles: the train list's.
        share: of each season's scenes; at least one scene, but never a season's only one.
    """
    scenes: Mapping[str, set[str]] = defaultdict(set)
    for tile in tiles:
        scenes[tile.season].add(tile.place)
    chosen: set[str] = set()
    for places in scenes.values():
        count = min(max(round(share * len(places)), 1), len(places) - 1)
        chosen.update(sorted(places, key=_rank)[:count])
    return chosen


def _rank(place: str) -> str:
    return hashlib.sha256(place.encode()).hexdigest()


def _read_list(path: Path) -> list[Tile]:
    if not path.is_file():
        raise SourceError(f"There is no list {path}.", hint="dvc repro -f -s fetch")
    tiles = []
    for number, line in enumerate(read_utf8(path).splitlines(), start=1):
        if not line.strip():
            continue
        found = _TILE.fullmatch(line.strip())
        if found is None:
            raise SourceError(
                f"{path}, line {number} names no S2 tile.",
                got=line.strip()[:80],
                expected=_EXAMPLE,
                hint=f"remove {path.name}, then `dvc repro -f -s fetch`",
            )
        tiles.append(Tile(found["folder"], found["season"], int(found["scene"]), int(found["patch"])))
    return tiles
