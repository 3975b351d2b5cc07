"""Shards: folders of fixed-size records, each band at its native resolution, read by global index.

A shard is a folder of about a thousand pairs of one split:

    train/00000/
    ├── pixels.npy     [N] records; one record is a pair: s1_10m [2, 120, 120] int16 in 0.01 dB, s2_10m [4, 120, 120]
    │                  uint16 DN, s2_20m [6, 60, 60] uint16, …: one field per modality and resolution
    ├── labels.npy     [N, K] uint8, 1 where the pair has the class; [N, 1] float32 for the value of a regression
    ├── maps.npy       [N, h, w] at 10 m, uint8 classes or float32 values; only where the source has maps
    └── manifest.json  inputs, keys in order, SHA-256 of each file

One system call reads a record straight into the batch. No file is memory-mapped, so memory is bounded by the batch,
whatever the dataset's size. `manifest.json` beside the splits' folders lists inputs, task, classes of maps, origin,
pairs left out, the number of pairs and the SHA-256 of the manifest of each shard, and the SHA-256 of all of that.
"""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.config.task import Task
from fusmae.data.index import SPLITS, Split
from fusmae.data.records import WHOLE, Files, damaged, first_record, map_dtype, read_records, record_dtype, to_physical
from fusmae.errors import Fault, ShardError
from fusmae.files import file_sha256
from fusmae.modalities import ModalityInput, map_side_px

FORMAT = 3
MANIFEST, PIXELS, LABELS, MAPS = "manifest.json", "pixels.npy", "labels.npy", "maps.npy"
_OPEN_FILES = 64


@dataclass(frozen=True)
class Origin:
    """The dataset that shards were made from."""

    name: str = ""  # name of the source
    licence: str = ""  # licence of the source's data
    is_synthetic: bool = False  # whether the pixels are made up

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
    """A pair that is in the index but had to be left out of the shards."""

    key: str  # key of the pair
    fault: Fault  # kind of the fault
    problem: str  # text of the error


class _Shard:
    """What the manifest of one shard folder states."""

    def __init__(self, path: Path) -> None:
        manifest = read_manifest(path / MANIFEST)
        self.path = path
        self.inputs = _inputs_of(manifest)
        self.keys: list[str] = manifest["keys"]
        self.files: dict[str, str] = manifest["files"]
        # Shards of older versions have maps of classes only.
        pixel = manifest.get("map_dtype", "uint8")
        self.dtypes = {PIXELS: record_dtype(self.inputs), MAPS: map_dtype(map_side_px(self.inputs), pixel)}
        self.starts = {
            name: first_record(path / name, len(self.keys), dtype)
            for name, dtype in self.dtypes.items()
            if name in self.files
        }


class PairReader:
    """Pairs of some shards by index, which counts through all of them; checksums are not compared.

    Raises:
        ShardError: a shard has no manifest, a damaged one or one of another format.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._shards = [_Shard(path) for path in paths]
        self._starts = [0, *accumulate(len(shard.keys) for shard in self._shards)]
        self._files = Files(_OPEN_FILES)
        self.inputs = self._shards[0].inputs if self._shards else ()
        self.keys = [key for shard in self._shards for key in shard.keys]

    def __len__(self) -> int:
        return len(self.keys)

    def spread(self, most: int) -> list[int]:
        """Indices of all pairs, or of `most` of them, evenly spread over the split."""
        rows: list[int] = np.unique(np.linspace(0, len(self) - 1, min(most, len(self))).astype(int)).tolist()
        return rows

    @property
    def has_maps(self) -> bool:
        """Whether there are maps."""
        return any(MAPS in shard.files for shard in self._shards)

    @cached_property
    def labels(self) -> NDArray[Any]:
        """Labels of all pairs: uint8 `[N, K]`, 1 where the pair has the class; or float32 `[N, 1]`, a value.

        Where maps have the labels, these are the classes or the mean value of each map. NaN is no value.
        """
        return np.concatenate([np.load(shard.path / LABELS) for shard in self._shards])

    def read(self, indices: Sequence[int]) -> dict[str, NDArray[Any]]:
        """Pixels of pairs in the given order, `[B, C, h, w]` by input name, in physical units."""
        stored = self._gather(PIXELS, indices)
        return {item.name: to_physical(stored[item.name], item.unit) for item in self.inputs}

    def read_maps(self, indices: Sequence[int]) -> NDArray[Any]:
        """Maps `[B, h, w]`: uint8 positions in `map_classes`, or `NO_CLASS`; or float32 values, or NaN."""
        return self._gather(MAPS, indices)[WHOLE]

    def _gather(self, name: str, indices: Sequence[int]) -> dict[str, NDArray[Any]]:
        for index in indices:
            if not 0 <= index < len(self):
                raise IndexError(f"pair {index} of {len(self)}")
        return read_records(self._runs(name, indices), len(indices), self._shards[0].dtypes[name])

    def _runs(self, name: str, indices: Sequence[int]) -> Iterator[tuple[Path, int, int, range]]:
        """Runs for `read_records`: neighbours that follow one another in one shard are read together."""
        shards = [bisect_right(self._starts, index) - 1 for index in indices]
        for (number, _), run in groupby(range(len(indices)), lambda place: (shards[place], indices[place] - place)):
            place, *others = run
            row, shard = indices[place] - self._starts[number], self._shards[number]
            path = shard.path / name
            yield path, self._files(path), shard.starts[name], range(row, row + 1 + len(others))


class ShardFolder:
    """All shards of a dataset, as the folder's manifest lists them.

    Raises:
        ShardError: there are no shards, they have another format, or the manifest is damaged.
    """

    def __init__(self, folder: Path) -> None:
        manifest = read_manifest(folder / MANIFEST)
        expected = manifest.pop("sha256", None)
        if (got := manifest_sha256(manifest)) != expected:
            raise damaged(folder / MANIFEST, got, expected)
        self.inputs = _inputs_of(manifest)
        # Shards of older versions have several labels per tile.
        stated = manifest.get("task") or {"kind": "multilabel", "classes": manifest["classes"]}
        self.task = Task.model_validate(stated)  # what the labels are; classes in the order of the label columns
        self.map_classes: tuple[str, ...] = tuple(manifest["map_classes"])  # by number; empty where there are no maps
        self.origin = Origin(**manifest["origin"])
        self.left_out = [LeftOut(**item) for item in manifest["left_out"]]
        # SHA-256 of each shard's own manifest by the shard's path, for each split.
        self.checksums: dict[Split, dict[Path, str]] = {
            split: {folder / split / entry["name"]: entry["sha256"] for entry in manifest["splits"][split]}
            for split in SPLITS
        }

    def paths(self, *splits: Split) -> list[Path]:
        """Shard folders of some splits, or of all, in order."""
        return [path for split in splits or SPLITS for path in self.checksums[split]]


class ShardReader(PairReader):
    """One split's pairs by index; every file is compared with its checksum first, unless `verify` is false.

    Raises:
        ShardError: see `ShardFolder`; also, the split is empty, or a checksum is wrong (the message names the file).
    """

    def __init__(self, folder: Path, split: Split, *, verify: bool = True) -> None:
        shards = ShardFolder(folder)
        checksums = shards.checksums[split]
        if verify:
            _verify_all({path / MANIFEST: sha256 for path, sha256 in checksums.items()})
        super().__init__(checksums)
        if verify:
            _verify_all({shard.path / name: sha for shard in self._shards for name, sha in shard.files.items()})
        if not self.keys:
            raise ShardError(
                f"Split {split} in {folder} is empty.", expected="at least one pair", hint="dvc repro shard"
            )
        self.task, self.map_classes, self.origin = shards.task, shards.map_classes, shards.origin
        self.classes = self.task.classes

    @property
    def has_labels(self) -> bool:
        """Whether some pair has a label."""
        return bool(np.isfinite(self.labels).any() if self.task.value is not None else self.labels.any())

    def read_maps(self, indices: Sequence[int]) -> NDArray[Any]:
        """Maps `[B, h, w]`: uint8 positions in `map_classes`, or `NO_CLASS`; or float32 values, or NaN.

        Raises:
            ShardError: these shards have none.
        """
        if not self.has_maps:
            raise ShardError(
                f"The shards of {self.origin.name or 'this dataset'} have no maps.",
                expected="a dataset that has some: BigEarthNet v2, SEN12MS, the synthetic world, or your own",
                hint="choose another data.source in params.yaml",
            )
        return super().read_maps(indices)


def _inputs_of(manifest: Any) -> tuple[ModalityInput, ...]:
    return tuple(ModalityInput.model_validate(item) for item in manifest["inputs"])


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


def _verify_all(expected: dict[Path, str]) -> None:
    # Hashing releases the interpreter's lock, so the pool's threads hash several files in parallel.
    with ThreadPoolExecutor() as pool:
        for path, got in zip(expected, pool.map(_sha256_of, expected), strict=True):
            if got != expected[path]:
                raise damaged(path, got, expected[path])


def _sha256_of(path: Path) -> str:
    return file_sha256(path) if path.exists() else "no such file"
