"""Shards: folders of fixed-size records, each band at its native resolution, read by global index.

A shard is a folder of about a thousand pairs of one split:

    train/00000/
    ├── pixels.npy     [N] records; one record is a pair: s1_10m [2, 120, 120] int16 in 0.01 dB, s2_10m [4, 120, 120]
    │                  uint16 DN, s2_20m [6, 60, 60] uint16, …: one field a modality and resolution
    ├── labels.npy     [N, K] uint8
    ├── maps.npy       [N, h, w] uint8, classes of a land-cover map at 10 m; only where the source has maps
    └── manifest.json  inputs, keys in order, SHA-256 of each file

A record is read by one system call straight into the batch: nothing is mapped, so that memory is bounded by the batch,
whatever the dataset's size. `manifest.json` beside the splits states inputs, classes, classes of maps, origin, what was
left out, the counts and SHA-256 of each shard's manifest, and the SHA-256 of all that.
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
        pixels: by input name, `[B, C, h, w]` in physical units: float32 dB, uint16 DN.
        labels: `[B, K]` uint8.
    """

    pixels: dict[str, NDArray[Any]]
    labels: NDArray[np.uint8]


@dataclass(frozen=True)
class Origin:
    """Which dataset shards were made from.

    Attributes:
        name: of the source.
        licence: its terms.
        is_synthetic: its pixels are made up.
    """

    name: str = ""
    licence: str = ""
    is_synthetic: bool = False

    @property
    def described(self) -> str:
        """Name and terms, as a model card states them."""
        return f"{self.name}: {self.licence}. {self.warning}".removesuffix(" ")

    @property
    def warning(self) -> str:
        """What must stand wherever made-up data, or what was learned from it, is shown; "" for real data."""
        return "SYNTHETIC data: made-up pixels, no evidence about the real world." if self.is_synthetic else ""


@dataclass(frozen=True)
class LeftOut:
    """A pair that is in the index and could not be taken into the shards.

    Attributes:
        key: the pair's key.
        fault: which kind of fault it is.
        problem: the error's text.
    """

    key: str
    fault: Fault
    problem: str


class Shard:
    """One shard folder, unverified.

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
        """Gather pairs by their row, in the order given."""
        buffers = self.buffers(PIXELS, len(rows))
        self.read_into(buffers, PIXELS, Files(1), 0, rows)
        return PixelBatch(buffers.physical(self.inputs), self.labels()[list(rows)])

    def maps(self, rows: Sequence[int]) -> NDArray[np.uint8] | None:
        """Land-cover maps `[B, h, w]` by row, in the order given; None where the shard has none."""
        if MAPS not in self.files:
            return None
        buffers = self.buffers(MAPS, len(rows))
        self.read_into(buffers, MAPS, Files(1), 0, rows)
        return buffers.whole

    def buffers(self, name: str, count: int) -> Buffers:
        """Room for records of one of its files."""
        return Buffers(self._dtypes[name], count)

    def read_into(self, buffers: Buffers, name: str, files: Files, at: int, rows: Sequence[int]) -> None:
        """Read rows of one of its files to the places from `at` on."""
        buffers.fill(files(self.path / name), self._starts[name], at, rows, self.path / name)


class ShardReader:
    """One split's pairs by global index.

    Args:
        folder: the folder with `manifest.json`.
        split: which split.
        verify: compare every file with its checksum first.

    Raises:
        ShardError: no shards, another format, an empty split, or a checksum that is wrong (names the file).
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
        """Gather pairs by their index in the split, in the order given."""
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
        """Neighbours in the batch that lie in one shard, with their place in the batch."""
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
        ShardError: no shards, or a damaged manifest.
    """
    return [folder / split / entry["name"] for entry in _read_checked(folder)["splits"][split]]


def every_shard(folder: Path) -> list[Path]:
    """Shard folders of all splits, in order."""
    return [path for split in SPLITS for path in shard_paths(folder, split)]


def read_left_out(folder: Path) -> list[LeftOut]:
    """Pairs of the index that are not in the shards, and why.

    Raises:
        ShardError: no shards, or a damaged manifest.
    """
    return [LeftOut(**item) for item in _read_checked(folder)["left_out"]]


def read_map_classes(folder: Path) -> tuple[str, ...]:
    """Classes of the land-cover maps, in the order of their numbers; none where the shards have no maps.

    Raises:
        ShardError: no shards, or a damaged manifest.
    """
    return tuple(_read_checked(folder)["map_classes"])


def read_origin(folder: Path) -> Origin:
    """Which dataset the shards were made from.

    Raises:
        ShardError: no shards, or a damaged manifest.
    """
    return Origin(**_read_checked(folder)["origin"])


def read_manifest(path: Path) -> Any:
    """A manifest of this format, its checksum not compared.

    Raises:
        ShardError: it is absent, damaged or of another format.
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
    # Hashing releases the interpreter's lock: as many files at a time as there are cores.
    with ThreadPoolExecutor() as pool:
        for path, got in zip(expected, pool.map(_sha256_of, expected), strict=True):
            if got != expected[path]:
                raise damaged(path, got, expected[path])


def _sha256_of(path: Path) -> str:
    return file_sha256(path) if path.exists() else "no such file"
