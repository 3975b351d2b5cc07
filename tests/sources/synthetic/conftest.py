from dataclasses import dataclass
from pathlib import Path

import pytest

from fusmae.data.index import Pair
from fusmae.sources.synthetic.plan import Block, World, blocks_of
from fusmae.sources.synthetic.scene import SyntheticScene, make_scene
from fusmae.sources.synthetic.source import SyntheticSource

NUM_PAIRS, SEED = 60, 7


@dataclass(frozen=True)
class Made:
    """A small world on disk; to be read, never changed."""

    source: SyntheticSource
    raw: Path
    world: World
    pairs: list[Pair]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    raw = tmp_path_factory.mktemp("synthetic") / "raw"
    source = SyntheticSource(NUM_PAIRS, SEED)
    source.fetch(raw.parent, raw)
    return Made(source, raw, World(NUM_PAIRS, SEED), source.pairs(raw))


@pytest.fixture(scope="session")
def large_block() -> Block:
    return blocks_of(World(1000, SEED))[0]


@pytest.fixture(scope="session")
def large_scene(large_block: Block) -> SyntheticScene:
    return make_scene(SEED, large_block)
