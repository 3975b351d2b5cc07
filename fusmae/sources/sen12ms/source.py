"""SEN12MS: 180,662 triplets of S1, S2 (L1C) and MODIS land cover from 252 scenes of all continents."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusmae.config.task import Kind, Task
from fusmae.data.index import Pair, Split
from fusmae.errors import PairError, SourceError, first_three
from fusmae.modalities import SEN12MS
from fusmae.runs.utf8 import read_utf8
from fusmae.sources.sen12ms import labels as land_cover
from fusmae.sources.shared.raster import Raster, check_same_ground, read_raster, require_pixels
from fusmae.sources.shared.source import Facts, Source, statistics_of
from fusmae.sources.transfer.fetch import fetch_archives, fetch_file
from fusmae.sources.transfer.remote import DEFAULT_OPTIONS, Archive, DownloadOptions, RemoteFile

# User name and password are public: they were published with the dataset.
_ARCHIVES_ADDRESS = "ftp://m1474000:m1474000@dataserv.ub.tum.de"
_LISTS_ADDRESS = "https://raw.githubusercontent.com/schmitt-muc/SEN12MS/3a41236a28d08d253ebe2fa1a081e5e32aa7eab4/splits"

TRAIN_LIST, TEST_LIST = "train_list.txt", "test_list.txt"
LISTS = (
    RemoteFile(TRAIN_LIST, f"{_LISTS_ADDRESS}/{TRAIN_LIST}", "0a68d4e1eb24f128fccdb930000b2546"),
    RemoteFile(TEST_LIST, f"{_LISTS_ADDRESS}/{TEST_LIST}", "c7faad064001e646445c4c634169484d"),
)
"""The official lists, which name the S2 tiles of all seasons; the split of each scene follows from them."""

ARCHIVE_MD5S: dict[str, str] = {
    "ROIs1158_spring_lc": "6e2e8fa8b8cba77ddab49fd20ff5c37b",
    "ROIs1158_spring_s1": "fba019bb27a08c1db96b31f718c34d79",
    "ROIs1158_spring_s2": "d58af2c15a16f376eb3308dc9b685af2",
    "ROIs1868_summer_lc": "2c5bd80244440b6f9d54957c6b1f23d4",
    "ROIs1868_summer_s1": "01044b7f58d33570c6b57fec28a3d449",
    "ROIs1868_summer_s2": "4dbaf72ecb704a4794036fe691427ff3",
    "ROIs1970_fall_lc": "9b126a68b0e3af260071b3139cb57cee",
    "ROIs1970_fall_s1": "19132e0aab9d4d6862fd42e8e6760847",
    "ROIs1970_fall_s2": "b8f117818878da86b5f5e06400eb1866",
    "ROIs2017_winter_lc": "0fa0420ef7bcfe4387c7e6fe226dc728",
    "ROIs2017_winter_s1": "bb8cbfc16b95a4f054a3d5380e0130ed",
    "ROIs2017_winter_s2": "3807545661288dcca312c9c538537b63",
}
"""MD5 of each archive, by the folder that it is unpacked to and its part of the triplets (`lc` is land cover)."""

_TILE = re.compile(
    r"(?P<folder>ROIs\d{4}_(?P<season>spring|summer|fall|winter))_s2_(?P<scene>\d+)_p(?P<patch>\d+)\.tif"
)
_EXAMPLE = "like ROIs1868_summer_s2_19_p30.tif"
_SIDE_PX = 256
_HINT = "restore the file, or remove its season's folder and run `dvc repro -f -s fetch` to fetch the season again"

_MID_SEASON = {
    season: datetime(2017, month, 15, tzinfo=UTC)
    for season, month in {"winter": 1, "spring": 4, "summer": 7, "fall": 10}.items()
}
"""Date of the pairs of each season, because SEN12MS states no dates. Its seasons are the meteorological ones from
December 2016 to November 2017.
"""

# One triplet of the 180,662 is in no list: the S1 tile of ROIs1868_summer_146_p202 holds NaN.
_NUM_TRAIN, _NUM_TEST = 162_555, 18_106

# Two tiles whose classes are easy to see in an image: desert in Mauritania, and rangeland with fields in Texas.
# A class map that is shifted by one would call them water, and wetlands with towns.
_KNOWN_LABELS: dict[str, tuple[str, ...]] = {
    "ROIs1970_fall_s2_4_p30": ("Barren",),
    "ROIs2017_winter_s2_27_p36": ("Grassland", "Croplands"),  # the largest first
}

# Schmitt & Wu's statistics of the train list; those of S1 are of backscatter clipped to -25..0 dB.
_STATISTICS = statistics_of(
    {
        "s1": {"VV": (-11.76858, 4.525339), "VH": (-18.294598, 4.3586307)},
        "s2": {
            "B02": (1226.4215, 741.6254),
            "B03": (1137.3799, 740.883),
            "B04": (1139.6792, 960.1045),
            "B05": (1350.9973, 946.76056),
            "B06": (1932.9058, 985.52747),
            "B07": (2211.1584, 1082.4341),
            "B08": (2154.9846, 1057.7628),
            "B8A": (2409.1128, 1136.1942),
            "B11": (2001.8622, 1132.7898),
            "B12": (1356.0801, 991.48016),
        },
    }
)


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


class Sen12msSource(Source):
    """SEN12MS; see `Source` for the methods and `Sen12msConfig` for the settings."""

    name = "sen12ms"
    map_classes = land_cover.CLASSES
    licence = "SEN12MS (Schmitt et al., doi:10.14459/2019mp1474000): CC BY 4.0"

    def __init__(self, seasons: Sequence[str], validation_share: float, kind: Kind = "multilabel") -> None:
        self.task = Task(kind=kind, classes=land_cover.CLASSES)
        self._seasons = tuple(season for season in _MID_SEASON if season in seasons or not seasons)
        self._validation_share = validation_share
        self._kind = kind

    def fetch(self, downloads: Path, raw: Path, options: DownloadOptions = DEFAULT_OPTIONS) -> dict[str, str]:
        """Fetch the chosen seasons' archives and both lists; see `Source.fetch`."""
        for file in LISTS:
            fetch_file(file, raw / file.name, options)
        archives = fetch_archives(season_archives(self._seasons), downloads, raw, options)
        return {**{file.name: f"md5:{file.md5}" for file in LISTS}, **archives}

    def pairs(self, raw: Path) -> list[Pair]:
        """Return every pair that the official lists name in the chosen seasons.

        The labels come from `IGBP_probability_labels.pkl` if `raw` contains it, otherwise from the land-cover tiles,
        which takes about three minutes for all seasons on two processor cores.

        Raises:
            SourceError: `raw` or a list is absent, or labels can't be read.
        """
        if not raw.is_dir():
            raise SourceError(f"There is no raw data at {raw}.", hint="dvc repro -f -s fetch")
        splits = read_tiles(raw, self._seasons, self._validation_share)
        tiles = list(splits)
        official = land_cover.read_shares(raw / land_cover.LABELS_FILE)
        covers = land_cover.read_land_covers([raw / tile.path("lc") for tile in tiles], with_shares=official is None)
        shares = _shares_of_covers(tiles, covers) if official is None else _official_shares(tiles, official)
        pairs = [
            Pair(
                key=tile.name("s2").removesuffix(".tif"),
                files={side: tile.path(side) for side in SEN12MS},
                labels=land_cover.classes_of(share, self._kind),
                split=splits[tile],
                place=tile.place,
                date=_MID_SEASON[tile.season],
                lon=lon,
                lat=lat,
            )
            for tile, share, (lon, lat) in zip(tiles, shares, land_cover.lon_lat(covers), strict=True)
        ]
        return sorted(pairs, key=lambda pair: pair.key)

    def read(self, raw: Path, pair: Pair) -> dict[str, NDArray[Any]]:
        """Read both modalities: S1 float32 dB, S2 uint16, all `[256, 256]`; see `Source.read`."""
        rasters: dict[str, Raster] = {}
        for side, modality in SEN12MS.items():
            rasters[side] = read_raster(raw / pair.files[side], pair.key, hint=_HINT, units=modality.units)
            _check_side(pair.key, side, rasters[side])
        check_same_ground(pair.key, rasters)
        return {
            band: pixels
            for side, raster in rasters.items()
            for band, pixels in zip(SEN12MS[side].bands, raster.filled, strict=True)
        }

    def read_map(self, raw: Path, pair: Pair) -> NDArray[np.uint8]:
        """Read the classes of the land-cover tile `[256, 256]`; see `Source.read_map`."""
        # The S2 tile is read only for its place.
        s2 = pair.files["s2"]
        paths = {"land cover": raw / s2.replace("s2_", "lc_"), "s2": raw / s2}
        rasters = {name: read_raster(path, pair.key, hint=_HINT, bands=[1]) for name, path in paths.items()}
        found = rasters["land cover"]
        require_pixels(pair.key, str(found.path), found.pixels[0], (_SIDE_PX, _SIDE_PX), np.uint8, hint=_HINT)
        check_same_ground(pair.key, rasters)
        return land_cover.classes_of_pixels(found.pixels[0])

    def facts(self, raw: Path) -> Facts:
        """Return the authors' counts and statistics; counts only for all seasons, because none are stated per season.

        Without the lists there are no counts: they determine which part of train is validation.
        """
        counts: dict[Split, int] | None = None
        if len(self._seasons) == len(_MID_SEASON) and all((raw / name).is_file() for name in (TRAIN_LIST, TEST_LIST)):
            carved = list(read_tiles(raw, self._seasons, self._validation_share).values()).count("validation")
            counts = {"train": _NUM_TRAIN - carved, "validation": carved, "test": _NUM_TEST}
        # Processing baselines of 2016 and 2017 add no offset.
        num_labels = 1 if self._kind == "multiclass" else None
        labels = {key: names[:num_labels] for key, names in _KNOWN_LABELS.items()}
        return Facts(counts=counts, labels=labels, statistics=_STATISTICS, s2_offset=0)


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


def season_archives(seasons: Sequence[str]) -> list[Archive]:
    """Return the archives of these seasons; the three archives of a season are unpacked into one folder."""
    return [
        Archive(name := f"{stem}.tar.gz", (RemoteFile(name, f"{_ARCHIVES_ADDRESS}/{name}", md5),), stem[: -len("_lc")])
        for stem, md5 in ARCHIVE_MD5S.items()
        if stem.split("_")[1] in seasons
    ]


def _shares_of_covers(tiles: Sequence[Tile], covers: Sequence[land_cover.LandCover]) -> list[list[float]]:
    faulty = [f"{tile.path('lc')} {cover.fault}" for tile, cover in zip(tiles, covers, strict=True) if cover.fault]
    if faulty:
        raise SourceError(
            f"The labels of {len(faulty)} of {len(tiles)} pairs are unknown: their land-cover tiles can't be used.",
            got=first_three(faulty, "; "),
            expected="four channels, IGBP classes 1 to 17 in the first",
            hint=f"{_HINT}; or put the authors' {land_cover.LABELS_FILE} into the raw folder",
        )
    return [cover.shares for cover in covers if cover.shares is not None]


def _official_shares(tiles: Sequence[Tile], official: Mapping[str, list[float]]) -> list[list[float]]:
    missing = [tile.name("s2") for tile in tiles if tile.name("s2") not in official]
    if missing:
        raise SourceError(
            f"{land_cover.LABELS_FILE} has no labels of {len(missing)} of {len(tiles)} pairs.",
            got=first_three(missing, "; "),
            hint=f"replace or remove {land_cover.LABELS_FILE}: without it labels come from the land-cover tiles",
        )
    return [official[tile.name("s2")] for tile in tiles]


def _check_side(key: str, side: str, raster: Raster) -> None:
    modality, bands, count = SEN12MS[side], SEN12MS[side].bands, len(raster.pixels)
    if count != len(bands):
        why = ": 12 bands are L2A's, which lack B10; SEN12MS is L1C" if (side, count) == ("s2", 12) else ""
        problem = f"Pair {key}: {raster.path} does not have the bands of {side}{why}."
        expected = f"{len(bands)} bands: {', '.join(bands)}"
        raise PairError("incomplete", problem, got=f"{count} bands", expected=expected, hint=_HINT)
    shape = (count, _SIDE_PX, _SIDE_PX)
    require_pixels(key, str(raster.path), raster.pixels, shape, modality.unit.dtype, units=modality.units, hint=_HINT)
