"""Generation of a world, with blocks in parallel processes; a killed process loses only its unfinished blocks."""

import json
import multiprocessing
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path

from fusmae.errors import SourceError
from fusmae.sources.synthetic.plan import Block, World, blocks_of
from fusmae.sources.synthetic.write import (
    CLEAN_TABLE,
    MAPS_FOLDER,
    S1_FOLDER,
    S2_FOLDER,
    SNOW_AND_CLOUD_TABLE,
    Row,
    scene_folders,
    write_block,
    write_marker,
    write_tables,
)

MARKER = "SYNTHETIC.txt"
_RECORDS = ".blocks"
_MADE = (S1_FOLDER, S2_FOLDER, MAPS_FOLDER, _RECORDS, SNOW_AND_CLOUD_TABLE, CLEAN_TABLE)


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
        write_tables([row for block in blocks for row in _rows(raw, block)], raw)
    else:
        # The rows of all blocks are in the tables: only folders that were removed are made again.
        gone = [block for block in blocks if not all(folder.is_dir() for folder in scene_folders(raw, block))]
        _make(world, gone, raw, num_processes)
    shutil.rmtree(raw / _RECORDS, ignore_errors=True)


def is_complete(raw: Path, world: World) -> bool:
    """Return whether this world was once finished in `raw`."""
    return identity_of(raw) == str(world) and all((raw / name).exists() for name in (SNOW_AND_CLOUD_TABLE, CLEAN_TABLE))


def identity_of(raw: Path) -> str | None:
    """Return seed, size and version of the world in `raw`; None where there is no world."""
    marker = raw / MARKER
    return marker.read_text(encoding="utf-8").splitlines()[-1] if marker.exists() else None


def _claim(raw: Path, world: World) -> None:
    found = identity_of(raw)
    if found == str(world):
        return
    if found is None and raw.is_dir() and any(raw.iterdir()):
        raise SourceError(
            f"{raw} holds something that is no synthetic world; it is left as it is.",
            got=", ".join(sorted(path.name for path in raw.iterdir())[:5]),
            expected=f"an empty folder, or one with {MARKER}",
            hint="move the data away, or set data.source to what it is; then `dvc repro -f -s fetch`",
        )
    # The tables are removed first: without them the remaining files are not taken for a complete world.
    for name in reversed(_MADE):
        path = raw / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
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


def _rows(raw: Path, block: Block) -> list[Row]:
    rows: list[Row] = json.loads(_record(raw, block).read_text(encoding="utf-8"))
    return rows
