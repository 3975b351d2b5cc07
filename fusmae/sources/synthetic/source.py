"""The synthetic world as a source of pairs."""

import json
import multiprocessing
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.data.index import SPLITS, Pair
from fusmae.errors import SourceError
from fusmae.files import remove
from fusmae.sources.patches import v2
from fusmae.sources.patches.facts import V2_CHECKED, V2_NOT_CHECKED
from fusmae.sources.patches.geotiff import read_patches
from fusmae.sources.patches.maps import read_reference_map
from fusmae.sources.shared.source import Facts
from fusmae.sources.synthetic.classes import CLASSES
from fusmae.sources.synthetic.plan import Block, World, blocks_of
from fusmae.sources.synthetic.scene import labels_by_key
from fusmae.sources.synthetic.write import scene_folders, write_block, write_marker, write_tables

MARKER = "SYNTHETIC.txt"
_RECORDS = ".blocks"
_MADE = (*v2.FOLDERS.values(), v2.MAPS_FOLDER, _RECORDS, v2.FLAGGED_TABLE, v2.TABLE)


class SyntheticSource:
    """Any number of made-up pairs in BigEarthNet v2's layout; see `Source` for the methods.

    Args:
        num_pairs: number of pairs, including those with clouds or snow.
        seed: random seed; another seed gives another world.
    """

    name = "synthetic"
    classes = map_classes = CLASSES
    is_synthetic = True
    licence = "made up by fusmae (Apache-2.0): no imagery of any real place"

    def __init__(self, num_pairs: int, seed: int) -> None:
        self._world = World(num_pairs, seed)

    def fetch(
        self, downloads: Path, raw: Path, *, mirrors: Sequence[str] = (), num_connections: int = 4
    ) -> dict[str, str]:
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
        blocks = blocks_of(self._world)
        counts: Counter[Any] = Counter()
        for block in blocks:
            counts[block.split] += block.num_patches
        labels: dict[str, tuple[str, ...]] = {}
        for split in SPLITS:
            labels |= labels_by_key(self._world.seed, next(block for block in blocks if block.split == split))
        return Facts(counts=dict(counts), labels=labels, cross_checked=V2_CHECKED, not_checked=V2_NOT_CHECKED)


def generate(world: World, raw: Path, num_processes: int | None = None) -> None:
    """Make the world in `raw`, or the missing part of it; pixels don't depend on the number of processes.

    If `raw` holds a world of another seed, size or version, that one is removed first.

    Args:
        world: description of the world to make.
        raw: folder of the world.
        num_processes: number of parallel processes; None for one per core.

    Raises:
        SourceError: `raw` holds something that is not a synthetic world, or the world is too large.
        StorageError: the disk is full or refuses to write.
    """
    from filelock import FileLock

    blocks = blocks_of(world)
    raw.parent.mkdir(parents=True, exist_ok=True)
    # A second process for the same folder waits, and then finds everything done.
    with FileLock(raw.with_name(f".{raw.name}.lock")):
        _complete(world, blocks, raw, num_processes)


def _complete(world: World, blocks: Sequence[Block], raw: Path, num_processes: int | None) -> None:
    _claim(raw, world)
    if not is_complete(raw, world):
        missing = [block for block in blocks if not _record(raw, block).exists()]
        _make(world, missing, raw, num_processes)
        records = (json.loads(_record(raw, block).read_text(encoding="utf-8")) for block in blocks)
        write_tables([row for record in records for row in record], raw)
    else:
        # The rows of all blocks are in the tables: only folders that were removed are made again.
        removed = [block for block in blocks if not all(folder.is_dir() for folder in scene_folders(raw, block))]
        _make(world, removed, raw, num_processes)
    remove(raw / _RECORDS)


def is_complete(raw: Path, world: World) -> bool:
    """Return whether this world was once finished in `raw`."""
    return identity_of(raw) == str(world) and all((raw / name).exists() for name in (v2.FLAGGED_TABLE, v2.TABLE))


def identity_of(raw: Path) -> str | None:
    """Return seed, size and version of the world in `raw`; None where there is no world."""
    marker = raw / MARKER
    return marker.read_text(encoding="utf-8").splitlines()[-1] if marker.exists() else None


def _claim(raw: Path, world: World) -> None:
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
    for name in reversed(_MADE):
        remove(raw / name)
    write_marker(raw / MARKER, str(world))


def _make(world: World, blocks: Sequence[Block], raw: Path, num_processes: int | None) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    if not blocks:
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task("synthetic pairs", total=sum(block.num_patches for block in blocks), speed="")
        for block in _written(world, blocks, raw, num_processes):
            progress.advance(task, block.num_patches)
            speed = progress.tasks[0].speed
            progress.update(task, speed=f"{speed:.0f} pairs/s" if speed else "")


def _written(world: World, blocks: Sequence[Block], raw: Path, num_processes: int | None) -> Iterator[Block]:
    """Yield each block when it is written, in any order."""
    from dask.system import CPU_COUNT  # number of cores that a container or a job scheduler grants to this process

    write = partial(write_block, world.seed)
    num_processes = min(num_processes or CPU_COUNT, len(blocks))
    if num_processes == 1:
        for block in blocks:
            write(block, raw, _record(raw, block))
            yield block
        return
    # A forked process would inherit locks held by other threads of this process.
    with ProcessPoolExecutor(num_processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        done = {pool.submit(write, block, raw, _record(raw, block)): block for block in blocks}
        try:
            for future in as_completed(done):
                future.result()
                yield done[future]
        finally:
            pool.shutdown(cancel_futures=True)


def _record(raw: Path, block: Block) -> Path:
    return raw / _RECORDS / f"{block.number:06d}.json"
