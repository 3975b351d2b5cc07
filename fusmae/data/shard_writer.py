"""Writing shards: each whole or not at all, in any number of processes, kept where it is finished already."""

import errno
import hashlib
import json
import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import indent
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.data.index import SPLITS, Pair
from fusmae.data.pixels import check_map, map_side_px, stack_bands
from fusmae.data.records import map_dtype, record_dtype
from fusmae.data.shards import (
    FORMAT,
    LABELS,
    MANIFEST,
    MAPS,
    PIXELS,
    LeftOut,
    Origin,
    manifest_sha256,
    read_manifest,
)
from fusmae.data.storage import to_stored
from fusmae.errors import CHECK_OF_FAULT, PairError, ShardError, SourceError
from fusmae.files import file_sha256, storage_error, write_json
from fusmae.modalities import ModalityInput

ReadPair = Callable[[Pair], dict[str, NDArray[Any]]]


@dataclass(frozen=True)
class Maps:
    """Land-cover maps of pairs.

    Attributes:
        classes: in the order of their numbers.
        read: gives a pair's map `[h, w]` at 10 m; travels to other processes.
    """

    classes: tuple[str, ...]
    read: Callable[[Pair], NDArray[np.uint8]]


@dataclass(frozen=True)
class ShardJob:
    """All that one process needs to write one shard.

    Attributes:
        path: the shard's folder.
        pairs: in the order of their rows.
        read: gives a pair's `[h, w]` array by band name, at native resolution.
        inputs: the arrays to store.
        classes: class names; the order of label columns.
        maps: land-cover maps to store; None for none.
    """

    path: Path
    pairs: tuple[Pair, ...]
    read: ReadPair
    inputs: tuple[ModalityInput, ...]
    classes: tuple[str, ...]
    maps: Maps | None = None

    @property
    def identity(self) -> str:
        """Another pair, label, band or class is another shard."""
        facts = [
            FORMAT,
            [(pair.key, pair.s1, pair.s2, pair.labels) for pair in self.pairs],
            [item.model_dump(mode="json") for item in self.inputs],
            self.classes,
            self.maps and self.maps.classes,
        ]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


@dataclass(frozen=True)
class WrittenShard:
    """What the manifest of all shards says of one, and the pairs that it does without."""

    count: int
    sha256: str
    left_out: tuple[LeftOut, ...]


Run = Callable[[Callable[[ShardJob], WrittenShard], Sequence[ShardJob]], Iterable[WrittenShard]]


def write_shards(
    pairs: Sequence[Pair],
    read: ReadPair,
    folder: Path,
    *,
    inputs: Sequence[ModalityInput],
    classes: Sequence[str],
    shard_pairs: int,
    maps: Maps | None = None,
    origin: Origin = Origin(),  # noqa: B008 — frozen
    run: Run = map,
) -> list[LeftOut]:
    """Write every split's shards, then the manifest that makes them valid.

    A shard that stands in `folder` from an earlier, interrupted call is kept if its checksums are right and no pair
    had to be left out of it.

    Args:
        pairs: the index.
        read: gives a pair's `[h, w]` array by band name, at native resolution; travels to other processes.
        folder: where the splits' folders go.
        inputs: the arrays to store.
        classes: class names; the order of label columns.
        shard_pairs: pairs in one shard.
        maps: land-cover maps to store; None for none.
        origin: the dataset.
        run: applies a function to every job and gives the results in their order.

    Returns:
        Pairs that could not be taken: pixels missing, unreadable, not finite or in other units.

    Raises:
        StorageError: the disk is full.
    """
    jobs = [
        ShardJob(folder / name, members, read, tuple(inputs), tuple(classes), maps)
        for name, members in _plan(pairs, shard_pairs)
    ]
    _remove_partial(folder)
    written = list(run(write_shard, jobs))
    _remove_partial(folder)  # of workers that were taken for lost
    splits: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    for job, shard in zip(jobs, written, strict=True):
        splits[job.path.parent.name].append({"name": job.path.name, "count": shard.count, "sha256": shard.sha256})
    left_out = [item for shard in written for item in shard.left_out]
    manifest = {
        "format": FORMAT,
        "origin": asdict(origin),
        "inputs": [item.model_dump(mode="json") for item in inputs],
        "classes": list(classes),
        "map_classes": list(maps.classes if maps else ()),
        "left_out": [asdict(item) for item in left_out],
        "splits": splits,
    }
    write_json(folder / MANIFEST, {**manifest, "sha256": manifest_sha256(manifest)})
    return left_out


def require_tolerated(
    left_out: Sequence[LeftOut], tolerated: Mapping[str, int], listing: Path, *, num_pairs: int
) -> None:
    """Refuse to go on without pairs that nobody has agreed to leave out.

    Args:
        left_out: as `write_shards` gives it.
        tolerated: how many, by the examination's check.
        listing: where all of them are listed.
        num_pairs: number of all pairs.

    Raises:
        SourceError: there are more; names the first of each check, with its own advice.
    """
    listing.unlink(missing_ok=True)
    counts = Counter(CHECK_OF_FAULT[item.fault] for item in left_out)
    too_many = {check: count for check, count in counts.items() if count > tolerated.get(check, 0)}
    if too_many:
        write_json(listing, [asdict(item) for item in left_out])
        firsts = [next(item for item in left_out if CHECK_OF_FAULT[item.fault] == check) for check in too_many]
        problems = [
            f"{check}: {counts[check]:,} of {num_pairs:,} pairs, {tolerated.get(check, 0):,} tolerated; the first:\n"
            + indent(first.problem, "    ")
            for check, first in zip(too_many, firsts, strict=True)
        ]
        agreed = ", ".join(f"{check}: {count}" for check, count in {**tolerated, **too_many}.items())
        # Without any pair there would be nothing to train on.
        or_agree = f", or go on without them by data.tolerated: {{{agreed}}} in params.yaml"
        raise SourceError(
            "\n".join([f"{len(left_out):,} pairs can't be taken into the shards.", *problems]),
            hint=f"mend them ({listing} lists all){or_agree if len(left_out) < num_pairs else ''}; "
            "then `dvc repro`, which keeps the finished shards",
        )


def _plan(pairs: Sequence[Pair], shard_pairs: int) -> Iterator[tuple[str, tuple[Pair, ...]]]:
    """Each shard's name, with that of its split, and its pairs."""
    for split in SPLITS:
        members = [pair for pair in pairs if pair.split == split]
        for number, start in enumerate(range(0, len(members), shard_pairs)):
            yield f"{split}/{number:05d}", tuple(members[start : start + shard_pairs])


def write_shard(job: ShardJob) -> WrittenShard:
    """Write one shard whole, or keep the finished one that is there.

    Raises:
        StorageError: the disk is full.
    """
    if (kept := _finished(job)) is not None:
        return kept
    files = _room(job)
    keys: list[str] = []
    left_out: list[LeftOut] = []
    for pair in job.pairs:
        try:
            bands = job.read(pair)
            arrays = {item.name: to_stored(stack_bands(pair.key, bands, item), item.units) for item in job.inputs}
            if job.maps:
                land_cover = job.maps.read(pair)
                side_px, num_classes = map_side_px(job.inputs), len(job.maps.classes)
                files[MAPS][len(keys)] = check_map(pair.key, land_cover, side_px, num_classes)
        except PairError as error:
            left_out.append(LeftOut(pair.key, error.fault, str(error)))
            continue
        for name, array in arrays.items():
            files[PIXELS][name][len(keys)] = array
        files[LABELS][len(keys), [job.classes.index(label) for label in pair.labels]] = 1
        keys.append(pair.key)
    sha256 = _save(job, keys, {name: array[: len(keys)] for name, array in files.items()}, left_out)
    return WrittenShard(len(keys), sha256, tuple(left_out))


def _room(job: ShardJob) -> dict[str, NDArray[Any]]:
    """Arrays for all of a job's pairs, by the file that each becomes."""
    count = len(job.pairs)
    files = {PIXELS: np.empty(count, record_dtype(job.inputs)), LABELS: np.zeros((count, len(job.classes)), np.uint8)}
    return files | ({MAPS: np.empty(count, map_dtype(map_side_px(job.inputs)))} if job.maps else {})


def _save(job: ShardJob, keys: list[str], files: dict[str, NDArray[Any]], left_out: list[LeftOut]) -> str:
    # A cluster may run a job twice at a time: a worker was taken for lost, or the driver was killed and came back.
    own = job.path.with_name(f".{job.path.name}-{secrets.token_hex(8)}")
    try:
        own.mkdir(parents=True)
        _fill(own, job, keys, files, left_out)
        _take_place(own, job)
        return file_sha256(job.path / MANIFEST)
    except OSError as error:
        raise storage_error(job.path, error) from error
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _fill(own: Path, job: ShardJob, keys: list[str], files: dict[str, NDArray[Any]], left_out: list[LeftOut]) -> None:
    for name, array in files.items():
        _save_array(own / name, array)
    manifest = {
        "format": FORMAT,
        "identity": job.identity,
        "inputs": [item.model_dump(mode="json") for item in job.inputs],
        "keys": keys,
        "left_out": [item.key for item in left_out],
        "files": {name: file_sha256(own / name) for name in files},
    }
    write_json(own / MANIFEST, manifest)


def _take_place(own: Path, job: ShardJob) -> None:
    """Let a whole shard take its name, unless another process has put the same one there."""
    aside = own.with_name(f"{own.name}.replaced")
    while True:
        try:
            own.rename(job.path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            return
        if _finished(job) is not None:
            return
        with suppress(FileNotFoundError):  # another process was faster
            job.path.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)


def _remove_partial(folder: Path) -> None:
    for path in folder.glob("*/.*"):
        shutil.rmtree(path, ignore_errors=True)


def _finished(job: ShardJob) -> WrittenShard | None:
    path = job.path / MANIFEST
    if not path.exists():
        return None
    try:
        manifest = read_manifest(path)
    except ShardError:  # a machine that went down may leave an empty file
        return None
    # A pair that could not be taken may have been mended by now.
    if manifest["identity"] != job.identity or manifest["left_out"]:
        return None
    files: dict[str, str] = manifest["files"]
    if any(not (job.path / name).exists() or file_sha256(job.path / name) != sha for name, sha in files.items()):
        return None
    return WrittenShard(len(manifest["keys"]), file_sha256(path), ())


def _save_array(path: Path, array: NDArray[Any]) -> None:
    # Not np.save: its tofile loses the errno of a full disk. Not a writable memmap: a full disk kills the process.
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.data if array.dtype.names is None else array.view(np.uint8).data)
