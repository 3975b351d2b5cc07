"""The synthetic world as a source of pairs."""

import json
import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from dask.system import CPU_COUNT
from filelock import FileLock
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from fusmae.data.index import SPLITS, Pair
from fusmae.errors import SourceError
from fusmae.files import remove, write_text
from fusmae.sources.patches import v2
from fusmae.sources.patches.facts import V2_CHECKED, V2_NOT_CHECKED
from fusmae.sources.patches.geotiff import read_patches, read_reference_map
from fusmae.sources.shared.source import Facts, Source
from fusmae.sources.synthetic.landscape import CLASSES
from fusmae.sources.synthetic.plan import Block, World, blocks_of
from fusmae.sources.synthetic.scene import labels_by_key
from fusmae.sources.synthetic.write import RECORDS, record_of, scene_folders, write_block, write_tables
from fusmae.sources.transfer.remote import DEFAULT_OPTIONS, DownloadOptions

MARKER = "SYNTHETIC.txt"
_MADE_UP = (
    "SYNTHETIC: every pixel and label in this folder is made up by fusmae.\n"
    "It has BigEarthNet v2's layout and class names, and says nothing about any real place or class.\n"
)


class SyntheticSource(Source):
    """Made-up pairs in BigEarthNet v2's layout; see `Source` for the methods, `SyntheticConfig` for the settings."""

    name = "synthetic"
    classes = map_classes = CLASSES
    is_synthetic = True
    licence = "made up by fusmae (Apache-2.0): no imagery of any real place"

    def __init__(self, num_pairs: int, seed: int) -> None:
        self._world = World(num_pairs, seed)

    def fetch(self, downloads: Path, raw: Path, options: DownloadOptions = DEFAULT_OPTIONS) -> dict[str, str]:
        """Make the world in `raw`; nothing is downloaded."""
        generate(self._world, raw)
        return {"synthetic": str(self._world)}

    def pairs(self, raw: Path) -> list[Pair]:
        """Return every pair of the world in the order of keys, including pairs with clouds or snow."""
        if not is_complete(raw, self._world):
            raise SourceError(
                f"{raw} does not hold the whole synthetic world.",
                got=identity_of(raw) or f"no {MARKER}",
                expected=f"{self._world}, with its tables",
                hint="dvc repro -f -s fetch",
            )
        return v2.table_pairs(raw, (), snow_and_clouds=True)

    def read(self, raw: Path, pair: Pair) -> dict[str, NDArray[Any]]:
        """Read S1, float32 dB `[120, 120]`, and S2, uint16 `[120, 120]`, `[60, 60]` or `[20, 20]`, by band."""
        return read_patches(raw, pair)

    def read_map(self, raw: Path, pair: Pair) -> NDArray[np.uint8]:
        """Read the map of classes `[120, 120]`; each pixel has a class."""
        return read_reference_map(raw, pair, self.map_classes)

    def facts(self, raw: Path) -> Facts:
        """Return how many pairs each split has by the world's plan, and the labels of one block per split."""
        blocks = {split: [block for block in blocks_of(self._world) if block.split == split] for split in SPLITS}
        counts = {split: sum(block.num_patches for block in some) for split, some in blocks.items()}
        known = chain.from_iterable(labels_by_key(self._world.seed, some[0]).items() for some in blocks.values())
        return Facts(counts=counts, labels=dict(known), cross_checked=V2_CHECKED, not_checked=V2_NOT_CHECKED)


def generate(world: World, raw: Path, num_processes: int | None = None) -> None:
    """Make the world in `raw`, or the missing part of it; pixels don't depend on the number of processes.

    If `raw` holds a world of another seed, size or version, that one is removed first. `num_processes` run in parallel,
    one per core by default.

    Raises:
        SourceError: `raw` holds something that is not a synthetic world, or the world is too large.
        StorageError: the disk is full or refuses to write.
    """
    blocks = blocks_of(world)
    raw.parent.mkdir(parents=True, exist_ok=True)
    # A second process for the same folder waits, and then finds everything done.
    with FileLock(raw.with_name(f".{raw.name}.lock")):
        _claim(raw, world)
        if is_complete(raw, world):
            # The rows of all blocks are in the tables: only folders that were removed are made again.
            removed = [block for block in blocks if not all(folder.is_dir() for folder in scene_folders(raw, block))]
            _make(world, removed, raw, num_processes)
        else:
            missing = [block for block in blocks if not record_of(raw, block).exists()]
            _make(world, missing, raw, num_processes)
            records = (json.loads(record_of(raw, block).read_text(encoding="utf-8")) for block in blocks)
            write_tables(list(chain.from_iterable(records)), raw)
        remove(raw / RECORDS)


def is_complete(raw: Path, world: World) -> bool:
    """Return whether this world was once finished in `raw`."""
    return identity_of(raw) == str(world) and all((raw / name).exists() for name in (v2.FLAGGED_TABLE, v2.TABLE))


def identity_of(raw: Path) -> str | None:
    """Return seed, size and version of the world in `raw`; None where there is no world."""
    marker = raw / MARKER
    return marker.read_text(encoding="utf-8").splitlines()[-1] if marker.exists() else None


def _claim(raw: Path, world: World) -> None:
    """Remove another world from `raw`, and write a marker that states that the data are made up."""
    identity = identity_of(raw)
    if identity == str(world):
        return
    if identity is None and raw.is_dir() and any(raw.iterdir()):
        raise SourceError(
            f"{raw} holds something other than a synthetic world; it is left as it is.",
            got=", ".join(sorted(path.name for path in raw.iterdir())[:5]),
            expected=f"an empty folder, or one with {MARKER}",
            hint="move the data away, or set data.source to what it is; then `dvc repro -f -s fetch`",
        )
    # The tables are removed first: without them the remaining files are not taken for a complete world.
    for name in (v2.TABLE, v2.FLAGGED_TABLE, RECORDS, v2.MAPS_FOLDER, *v2.FOLDERS.values()):
        remove(raw / name)
    write_text(raw / MARKER, f"{_MADE_UP}{world}\n")


def _make(world: World, blocks: Sequence[Block], raw: Path, num_processes: int | None) -> None:
    if not blocks:
        return
    # CPU_COUNT is the number of cores that a container or a job scheduler grants to this process.
    num_processes = min(num_processes or CPU_COUNT, len(blocks))
    with ExitStack() as stack:
        run: Callable[..., Iterable[None]] = map
        if num_processes > 1:
            # A forked process would inherit locks held by other threads of this process.
            spawn = multiprocessing.get_context("spawn")
            run = stack.enter_context(ProcessPoolExecutor(num_processes, mp_context=spawn)).map
        written = run(partial(write_block, world.seed, raw), blocks)
        for _ in track(written, "synthetic pairs", len(blocks), console=Console(stderr=True)):
            pass
