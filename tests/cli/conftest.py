"""A data set of tiles cut from scenes like those that commands are given, its index, and the reference made from it."""

import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fusmae.config.params import load_config
from fusmae.config.task import Task
from fusmae.data.index import Pair, write_index
from fusmae.data.shard_writer import write_shards
from fusmae.files import file_sha256
from fusmae.inference.drift.reference import save_reference
from fusmae.release.drift_reference import make_reference
from tests.inference.conftest import GSD_M, band, make_scenes

ROOT = Path(__file__).parents[2]
CLASSES = ("water", "forest", "town")
HEIGHT_M, WIDTH_M, TILE_M = 720, 960, 240
NUM_SCENES = {"train": 10, "validation": 20, "test": 1}


def fusmae(*arguments):
    command = [sys.executable, "-m", "fusmae", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def cut(pixels, gsd_m, row, column):
    """The tile `[..., side, side]` of a scene's pixels `[..., h, w]`."""
    side = TILE_M // gsd_m
    return pixels[..., row * side : (row + 1) * side, column * side : (column + 1) * side]


@dataclass
class World:
    """A data set on disk, and what a drift is measured from."""

    shards: Path
    index: Path
    reference: Path
    pairs: list[Pair]


def _pairs():
    for split, count in NUM_SCENES.items():
        for scene in range(count):
            date = datetime(2017, 6, 1, tzinfo=UTC) + timedelta(days=scene)
            for number in range((HEIGHT_M // TILE_M) * (WIDTH_M // TILE_M)):
                key, labels = f"{split}-{scene}-{number}", CLASSES[number % 3 : number % 3 + 1 + number % 2]
                yield Pair(key, {"s1": key}, labels, split, key, date, lon=15 + number / 100, lat=48.25)


@pytest.fixture(scope="session")
def world(tmp_path_factory, exported):
    folder = tmp_path_factory.mktemp("world")
    found = World(folder / "shards", folder / "index.parquet", folder / "reference.npz", list(_pairs()))

    def read(pair):
        split, scene, number = pair.key.split("-")
        row, column = divmod(int(number), WIDTH_M // TILE_M)
        seed = 100 * len(split) + int(scene)
        return {name: cut(band(name, HEIGHT_M, WIDTH_M, seed), gsd_m, row, column) for name, gsd_m in GSD_M.items()}

    write_shards(found.pairs, read, found.shards, inputs=exported.inputs, task=Task(classes=CLASSES), shard_pairs=50)
    write_index(found.pairs, found.index)
    kept = {"train_tiles": 2048, "validation_tiles": 2048, "tiles_per_scene": 64, "seed": 0}
    made = make_reference(exported.session, file_sha256(exported.path), found.shards, found.pairs, **kept)
    save_reference(made, found.reference)
    return found


@pytest.fixture
def scenes(tmp_path):
    return make_scenes(tmp_path / "scenes", HEIGHT_M, WIDTH_M)


@pytest.fixture(scope="session")
def config():
    return load_config(ROOT / "params.yaml")
