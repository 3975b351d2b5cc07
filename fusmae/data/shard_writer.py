"""Writing shards: each whole or not at all, in any number of processes; finished ones are kept."""

import errno
import hashlib
import json
import secrets
import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import indent
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.config.task import Task
from fusmae.data.cluster import Run
from fusmae.data.index import SPLITS, Pair
from fusmae.data.pixels import check_map, check_value_map, classes_in, stack_bands
from fusmae.data.records import map_dtype, record_dtype, to_stored
from fusmae.data.shards import FORMAT, LABELS, MANIFEST, MAPS, PIXELS, LeftOut, Origin, manifest_sha256, read_manifest
from fusmae.errors import CHECK_OF_FAULT, PairError, ShardError, SourceError
from fusmae.files import file_sha256, storage_error, write_json
from fusmae.modalities import ModalityInput, map_side_px

ReadPair = Callable[[Pair], dict[str, NDArray[Any]]]


@dataclass(frozen=True)
class Maps:
    """Maps of pairs, whose pixels have a class or, in a regression per pixel, a value."""

    classes: tuple[str, ...]  # class names in the order of their numbers; empty for values
    read: Callable[[Pair], NDArray[Any]]  # returns a pair's map `[h, w]` at 10 m; it is sent to other processes

    @property
    def dtype(self) -> str:
        """Type of a map's pixels."""
        return "uint8" if self.classes else "float32"


@dataclass(frozen=True)
class ShardJob:
    """All that one process needs to write one shard."""

    path: Path  # folder of the shard
    pairs: tuple[Pair, ...]  # pairs in the order of the shard's rows
    read: ReadPair  # returns a pair's arrays `[h, w]` by band name, at native resolution
    inputs: tuple[ModalityInput, ...]  # descriptions of the arrays to store
    task: Task  # what the labels are
    maps: Maps | None = None  # maps to store; None for none

    @property
    def identity(self) -> str:
        """SHA-256 of all that decides the shard's content: another pair, label, band or class gives another one."""
        facts = [
            FORMAT,
            [(pair.key, *pair.files.values(), pair.labels, pair.value) for pair in self.pairs],
            [item.model_dump(mode="json") for item in self.inputs],
            self.task.model_dump(mode="json"),
            self.maps and self.maps.classes,
        ]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


@dataclass(frozen=True)
class WrittenShard:
    """A shard's entry in the manifest of all shards, and the pairs that were left out of it."""

    count: int  # number of pairs in the shard
    sha256: str  # SHA-256 of the shard's own manifest
    left_out: tuple[LeftOut, ...]  # pairs of the job that are not in the shard, with the reasons


def write_shards(
    pairs: Sequence[Pair],
    read: ReadPair,
    folder: Path,
    *,
    inputs: Sequence[ModalityInput],
    task: Task,
    shard_pairs: int,
    maps: Maps | None = None,
    origin: Origin = Origin(),  # noqa: B008 — frozen
    run: Run = map,
) -> list[LeftOut]:
    """Write every split's shards, then the manifest that makes them valid.

    A shard that stands in `folder` from an earlier, interrupted call is kept if its checksums are right and no pair
    had to be left out of it. `folder` gets a folder of each split, with `shard_pairs` pairs in a shard; `run` applies a
    function to every job and returns the results in the order of the jobs. `ShardJob` explains the other arguments.

    Returns:
        Pairs that had to be left out: their pixels are missing, unreadable, not finite or in other units.

    Raises:
        StorageError: the disk is full.
    """
    jobs = []
    for split in SPLITS:
        members = [pair for pair in pairs if pair.split == split]
        for number, start in enumerate(range(0, len(members), shard_pairs)):
            part = tuple(members[start : start + shard_pairs])
            jobs.append(ShardJob(folder / split / f"{number:05d}", part, read, tuple(inputs), task, maps))
    _remove_partial(folder)
    written: list[WrittenShard] = list(run(write_shard, jobs))
    _remove_partial(folder)  # left by workers that the cluster took for lost
    splits: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    for job, shard in zip(jobs, written, strict=True):
        splits[job.path.parent.name].append({"name": job.path.name, "count": shard.count, "sha256": shard.sha256})
    left_out = [item for shard in written for item in shard.left_out]
    manifest = {
        "format": FORMAT,
        "origin": asdict(origin),
        "inputs": [item.model_dump(mode="json") for item in inputs],
        "task": task.model_dump(mode="json"),
        "map_classes": list(maps.classes if maps else ()),
        "left_out": [asdict(item) for item in left_out],
        "splits": splits,
    }
    write_json(folder / MANIFEST, {**manifest, "sha256": manifest_sha256(manifest)})
    return left_out


def require_tolerated(
    left_out: Sequence[LeftOut], tolerated: Mapping[str, int], listing: Path, *, num_pairs: int
) -> None:
    """Refuse that more pairs were left out of an index of `num_pairs` than the user has agreed to.

    Raises:
        SourceError: of a check of the examination more pairs were left out than `tolerated` has under its name; the
            message shows the first one of each such check, and the JSON file `listing` lists all that were left out.
    """
    listing.unlink(missing_ok=True)
    problems: dict[str, list[str]] = defaultdict(list)
    for item in left_out:
        problems[CHECK_OF_FAULT[item.fault]].append(item.problem)
    too_many = {check: len(texts) for check, texts in problems.items() if len(texts) > tolerated.get(check, 0)}
    if too_many:
        write_json(listing, [asdict(item) for item in left_out])
        firsts = [
            f"{check}: {count:,} of {num_pairs:,} pairs, {tolerated.get(check, 0):,} tolerated; the first:\n"
            + indent(problems[check][0], "    ")
            for check, count in too_many.items()
        ]
        agreed = ", ".join(f"{check}: {count}" for check, count in {**tolerated, **too_many}.items())
        # If all pairs are left out, tolerating that is no option: there would be nothing to train on.
        or_agree = f", or go on without them by data.tolerated: {{{agreed}}} in params.yaml"
        raise SourceError(
            "\n".join([f"{len(left_out):,} pairs can't be taken into the shards.", *firsts]),
            hint=f"mend them ({listing} lists all){or_agree if len(left_out) < num_pairs else ''}; "
            "then `dvc repro`, which keeps the finished shards",
        )


def write_shard(job: ShardJob) -> WrittenShard:
    """Write one shard whole, or keep the finished one that is there.

    Raises:
        StorageError: the disk is full.
    """
    if (kept := _finished(job)) is not None:
        return kept
    count, side_px = len(job.pairs), map_side_px(job.inputs)
    files: dict[str, NDArray[Any]] = {
        PIXELS: np.empty(count, record_dtype(job.inputs)),
        LABELS: np.zeros((count, job.task.num_outputs), np.float32 if job.task.value else np.uint8),
    }
    if job.maps:
        files[MAPS] = np.empty(count, map_dtype(side_px, job.maps.dtype))
    keys: list[str] = []
    left_out: list[LeftOut] = []
    for pair in job.pairs:
        try:
            arrays = stack_bands(pair.key, job.read(pair), job.inputs)
            pixels = _map_of(pair, job, side_px)
            labels = _labels_of(pair, pixels, job.task)
        except PairError as error:
            left_out.append(LeftOut(pair.key, error.fault, str(error)))
            continue
        for item in job.inputs:
            files[PIXELS][item.name][len(keys)] = to_stored(arrays[item.name], item.unit)
        files[LABELS][len(keys)] = labels
        if pixels is not None:
            files[MAPS][len(keys)] = pixels
        keys.append(pair.key)
    _save(job, keys, {name: array[: len(keys)] for name, array in files.items()}, left_out)
    return WrittenShard(len(keys), file_sha256(job.path / MANIFEST), tuple(left_out))


def _map_of(pair: Pair, job: ShardJob, side_px: int) -> NDArray[Any] | None:
    """A pair's checked map `[h, w]`; None where no maps are stored."""
    if job.maps is None:
        return None
    pixels = job.maps.read(pair)
    if job.task.value is not None:
        return check_value_map(pair.key, pixels, side_px, job.task.value)
    return check_map(pair.key, pixels, side_px, len(job.maps.classes))


def _labels_of(pair: Pair, pixels: NDArray[Any] | None, task: Task) -> NDArray[Any]:
    """A pair's row of labels `[K]`; where the map `[h, w]` has the labels, those of the tile as a whole."""
    if task.is_dense and pixels is not None:
        if task.value is not None:
            return np.array([np.nanmean(pixels, dtype=np.float64)], np.float32)
        return classes_in(pair.key, pixels, len(task.classes))
    if task.value is not None:
        return np.array([np.nan if pair.value is None else pair.value], np.float32)
    return np.array([name in pair.labels for name in task.classes], np.uint8)


def _save(job: ShardJob, keys: list[str], files: dict[str, NDArray[Any]], left_out: list[LeftOut]) -> None:
    # A cluster may run a job twice at the same time: when a worker is wrongly taken for lost, or when the driver was
    # killed and started again. So each process writes to a folder of its own.
    own = job.path.with_name(f".{job.path.name}-{secrets.token_hex(8)}")
    try:
        own.mkdir(parents=True)
        for name, array in files.items():
            _save_array(own / name, array)
        manifest = {
            "format": FORMAT,
            "identity": job.identity,
            "inputs": [item.model_dump(mode="json") for item in job.inputs],
            "keys": keys,
            "left_out": [item.key for item in left_out],
            "files": {name: file_sha256(own / name) for name in files},
            **({"map_dtype": job.maps.dtype} if job.maps else {}),
        }
        write_json(own / MANIFEST, manifest)
        _take_place(own, job)
    except OSError as error:
        raise storage_error(job.path, error) from error
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _take_place(own: Path, job: ShardJob) -> None:
    """Rename a finished shard to its final path, unless another process has put the same shard there."""
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
    try:
        manifest = read_manifest(path)
    except ShardError:  # there is none, or a crash of the machine has left an empty file
        return None
    # A pair that was left out may have been repaired by now, so such a shard is written again.
    if manifest["identity"] != job.identity or manifest["left_out"]:
        return None
    files: dict[str, str] = manifest["files"]
    if any(not (job.path / name).exists() or file_sha256(job.path / name) != sha for name, sha in files.items()):
        return None
    return WrittenShard(len(manifest["keys"]), file_sha256(path), ())


def _save_array(path: Path, array: NDArray[Any]) -> None:
    # Not np.save: it calls tofile, which loses the errno of a full disk. Not a writable memmap: there a full disk
    # kills the process.
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.data if array.dtype.names is None else array.view(np.uint8).data)
