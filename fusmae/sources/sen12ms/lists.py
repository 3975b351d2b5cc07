"""SEN12MS's official lists, the tiles that they name, and the split of each scene."""

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
        folder: name of the season's folder, such as "ROIs1868_summer".
        season: spring, summer, fall or winter.
        scene: number of the scene; numbers start again in each season.
        patch: number of the tile within the scene.
    """

    folder: str
    season: str
    scene: int
    patch: int

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
    splits: dict[Tile, Split] = {}
    for tile in sorted(train | test):
        if tile.place in held_out:
            splits[tile] = "test"
        else:
            splits[tile] = "validation" if tile.place in carved else "train"
    return splits


def validation_scenes(tiles: Iterable[Tile], share: float) -> set[str]:
    """Return the places of the scenes that become the validation split.

    They are the scenes of each season whose names have the smallest hashes. So every season is represented, and the
    choice depends neither on the order of the list nor on the other seasons in use.

    Args:
        tiles: tiles of the train list.
        share: share of each season's scenes; at least one scene is chosen, but never the only scene of a season.
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
