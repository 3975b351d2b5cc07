"""Shards: folders of fixed-size records, each band at its native resolution, read by global index.

A shard is a folder of about a thousand pairs of one split:

    train/00000/
    ├── pixels.npy     [N] records; one record is a pair: s1_10m [2, 120, 120] int16 in 0.01 dB, s2_10m [4, 120, 120]
    │                  uint16 DN, s2_20m [6, 60, 60] uint16, …: one field per modality and resolution
    ├── labels.npy     [N, K] uint8
    ├── maps.npy       [N, h, w] uint8, classes of a land-cover map at 10 m; only where the source has maps
    └── manifest.json  inputs, keys in order, SHA-256 of each file

One system call reads a record straight into the batch. No file is memory-mapped, so memory is bounded by the batch,
whatever the dataset's size. `manifest.json` beside the splits' folders lists inputs, classes, classes of maps, origin,
pairs left out, the number of pairs and the SHA-256 of the manifest of each shard, and the SHA-256 of all of that.
"""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.data.index import SPLITS, Split
from fusmae.data.pixels import map_side_px
from fusmae.data.records import Buffers, Files, damaged, first_record, map_dtype, record_dtype
from fusmae.errors import Fault, ShardError
from fusmae.files import file_sha256
from fusmae.modalities import ModalityInput

FORMAT = 3
MANIFEST, PIXELS, LABELS, MAPS = "manifest.json", "pixels.npy", "labels.npy", "maps.npy"
_OPEN_FILES = 64


@dataclass(frozen=True)
class PixelBatch:
    """Gathered pixels and labels of some pairs.

    Attributes:
        pixels: arrays `[B, C, h, w]` by input name, in physical units: float32 dB, uint16 DN.
        labels: uint8 `[B, K]`, 1 where the pair has the class.
    """

    pixels: dict[str, NDArray[Any]]
    labels: NDArray[np.uint8]


@dataclass(frozen=True)
class Origin:
    """The dataset that shards were made from.

    Attributes:
        name: name of the source.
        licence: licence of the source's data.
        is_synthetic: whether the pixels are made up.
    """

    name: str = ""
    licence: str = ""
    is_synthetic: bool = False

    @property
    def described(self) -> str:
        """Name and licence, followed by the warning, as a model card states them."""
        return f"{self.name}: {self.licence}. {self.warning}".removesuffix(" ")

    @property
    def warning(self) -> str:
        """Warning to show wherever made-up data, or results learned from them, are shown; "" for real data."""
        return "SYNTHETIC data: made-up pixels, no evidence about the real world." if self.is_synthetic else ""


@dataclass(frozen=True)
class LeftOut:
    """A pair that is in the index but had to be left out of the shards.

    Attributes:
        key: key of the pair.
        fault: kind of the fault.
        problem: text of the error.
    """

    key: str
    fault: Fault
    problem: str


class Shard:
    """One shard folder, whose checksums are not compared.

    Raises:
        ShardError: the folder has no manifest, a damaged one or one of another format.
    """

    def __init__(self, path: Path) -> None:
        manifest = read_manifest(path / MANIFEST)
        self.path = path
        self.inputs = tuple(ModalityInput.model_validate(item) for item in manifest["inputs"])
        self.keys: list[str] = manifest["keys"]
        self.files: dict[str, str] = manifest["files"]
        self._dtypes = {PIXELS: record_dtype(self.inputs)}
        if MAPS in self.files:
            self._dtypes[MAPS] = map_dtype(map_side_px(self.inputs))
        self._starts = {name: first_record(path / name, len(self), dtype) for name, dtype in self._dtypes.items()}

    def __len__(self) -> int:
        return len(self.keys)

    def labels(self) -> NDArray[np.uint8]:
        """Labels of the whole shard, `[N, K]`."""
        found: NDArray[np.uint8] = np.load(self.path / LABELS)
        return found

    def read(self, rows: Sequence[int]) -> PixelBatch:
        """Gather pairs by their rows, in the given order."""
        buffers = self.buffers(PIXELS, len(rows))
        self.read_into(buffers, PIXELS, Files(1), 0, rows)
        return PixelBatch(buffers.physical(self.inputs), self.labels()[list(rows)])

    def maps(self, rows: Sequence[int]) -> NDArray[np.uint8] | None:
        """Land-cover maps `[B, h, w]` by row, in the given order; None where the shard has none."""
        if MAPS not in self.files:
            return None
        buffers = self.buffers(MAPS, len(rows))
        self.read_into(buffers, MAPS, Files(1), 0, rows)
        return buffers.whole

    def buffers(self, name: str, count: int) -> Buffers:
        """Arrays for `count` records of the shard's file `name`."""
        return Buffers(self._dtypes[name], count)

    def read_into(self, buffers: Buffers, name: str, files: Files, at: int, rows: Sequence[int]) -> None:
        """Read rows of the shard's file `name` into consecutive places of `buffers`, from place `at`."""
        buffers.fill(files(self.path / name), self._starts[name], at, rows, self.path / name)


class ShardReader:
    """One split's pairs by global index.

    Args:
        folder: folder with `manifest.json`.
        split: name of the split.
        verify: whether every file is first compared with its checksum.

    Raises:
        ShardError: there are no shards, they have another format, the split is empty, or a checksum is wrong (the
            message names the file).
    """

    def __init__(self, folder: Path, split: Split, *, verify: bool = True) -> None:
        manifest = _read_checked(folder)
        self.inputs = tuple(ModalityInput.model_validate(item) for item in manifest["inputs"])
        self.classes: tuple[str, ...] = tuple(manifest["classes"])
        self.map_classes: tuple[str, ...] = tuple(manifest["map_classes"])
        self.origin = Origin(**manifest["origin"])
        entries = manifest["splits"][split]
        if not sum(entry["count"] for entry in entries):
            raise ShardError(
                f"Split {split} in {folder} is empty.", expected="at least one pair", hint="dvc repro shard"
            )
        if verify:
            _verify_all({folder / split / entry["name"] / MANIFEST: entry["sha256"] for entry in entries})
        self._shards = [Shard(folder / split / entry["name"]) for entry in entries]
        if verify:
            _verify_all({shard.path / name: sha for shard in self._shards for name, sha in shard.files.items()})
        self.keys: list[str] = [key for shard in self._shards for key in shard.keys]
        self.labels: NDArray[np.uint8] = np.concatenate([shard.labels() for shard in self._shards])
        self._starts: list[int] = [0, *accumulate(len(shard) for shard in self._shards)]
        self._files = Files(_OPEN_FILES)

    def __len__(self) -> int:
        return self._starts[-1]

    def read(self, indices: Sequence[int]) -> PixelBatch:
        """Gather pairs by their index in the split, in the given order."""
        buffers = self._gathered(PIXELS, indices)
        return PixelBatch(buffers.physical(self.inputs), self.labels[list(indices)])

    def read_maps(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Land-cover maps `[B, h, w]`: positions in `map_classes`, or `NO_CLASS`.

        Raises:
            ShardError: these shards have none.
        """
        if not self.map_classes:
            raise ShardError(
                f"The shards of {self.origin.name or 'this dataset'} have no land-cover maps.",
                expected="a dataset that has some: BigEarthNet v2, SEN12MS or the synthetic world",
                hint="choose another data.source in params.yaml",
            )
        return self._gathered(MAPS, indices).whole

    def _gathered(self, name: str, indices: Sequence[int]) -> Buffers:
        buffers = self._shards[0].buffers(name, len(indices))
        for at, shard, rows in self._located(indices):
            shard.read_into(buffers, name, self._files, at, rows)
        return buffers

    def _located(self, indices: Sequence[int]) -> Iterator[tuple[int, Shard, list[int]]]:
        """Runs of neighbours in the batch that lie in one shard: (place in the batch, shard, rows in the shard)."""
        at = 0
        while at < len(indices):
            if not 0 <= indices[at] < len(self):
                raise IndexError(f"pair {indices[at]} of {len(self)}")
            number = bisect_right(self._starts, indices[at]) - 1
            start, end = self._starts[number], self._starts[number + 1]
            rows: list[int] = []
            while at + len(rows) < len(indices) and start <= indices[at + len(rows)] < end:
                rows.append(indices[at + len(rows)] - start)
            yield at, self._shards[number], rows
            at += len(rows)


def shard_paths(folder: Path, split: Split) -> list[Path]:
    """Shard folders of a split, in order.

    Raises:
        ShardError: there are no shards, or the manifest is damaged.
    """
    return [folder / split / entry["name"] for entry in _read_checked(folder)["splits"][split]]


def every_shard(folder: Path) -> list[Path]:
    """Shard folders of all splits, in order."""
    return [path for split in SPLITS for path in shard_paths(folder, split)]


def read_left_out(folder: Path) -> list[LeftOut]:
    """Pairs of the index that are not in the shards, and why.

    Raises:
        ShardError: there are no shards, or the manifest is damaged.
    """
    return [LeftOut(**item) for item in _read_checked(folder)["left_out"]]


def read_map_classes(folder: Path) -> tuple[str, ...]:
    """Classes of the land-cover maps, in the order of their numbers; empty where the shards have no maps.

    Raises:
        ShardError: there are no shards, or the manifest is damaged.
    """
    return tuple(_read_checked(folder)["map_classes"])


def read_origin(folder: Path) -> Origin:
    """The dataset that the shards were made from.

    Raises:
        ShardError: there are no shards, or the manifest is damaged.
    """
    return Origin(**_read_checked(folder)["origin"])


def read_manifest(path: Path) -> Any:
    """Read a manifest without comparing its checksum.

    Raises:
        ShardError: the manifest is absent, damaged or of another format.
    """
    if not path.exists():
        raise ShardError(f"There are no shards: {path} is not there.", hint="dvc repro shard")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise damaged(path, error, "JSON") from error
    if manifest.get("format") != FORMAT:
        raise ShardError(
            f"{path} is of another shard format.", got=manifest.get("format"), expected=FORMAT, hint="dvc repro shard"
        )
    return manifest


def manifest_sha256(manifest: dict[str, Any]) -> str:
    """SHA-256 of a manifest's content."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _read_checked(folder: Path) -> Any:
    manifest = read_manifest(folder / MANIFEST)
    expected = manifest.pop("sha256", None)
    if (got := manifest_sha256(manifest)) != expected:
        raise damaged(folder / MANIFEST, got, expected)
    return manifest


def _verify_all(expected: dict[Path, str]) -> None:
    # Hashing releases the interpreter's lock, so the pool's threads hash several files in parallel.
    with ThreadPoolExecutor() as pool:
        for path, got in zip(expected, pool.map(_sha256_of, expected), strict=True):
            if got != expected[path]:
                raise damaged(path, got, expected[path])


def _sha256_of(path: Path) -> str:
    return file_sha256(path) if path.exists() else "no such file"
