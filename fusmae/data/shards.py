"""Shards: folders of memory-mapped arrays, each band at its native resolution.

A shard is a folder of about a thousand pairs of one split:

    train/00000/
    ├── s1_10m.npy   [N, 2, 120, 120] float32, dB
    ├── s2_10m.npy   [N, 4, 120, 120] uint16, DN     one file a modality and resolution
    ├── s2_20m.npy   [N, 6, 60, 60] uint16
    ├── labels.npy   [N, K] uint8
    └── manifest.json  keys in order, SHA-256 of each file

`manifest.json` beside the splits states inputs, classes, the counts and SHA-256 of each shard's manifest, and the
SHA-256 of all that.
"""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.data.index import SPLITS, Pair, Split
from fusmae.data.pixels import PIXEL_DTYPES, stack_bands
from fusmae.errors import ShardError
from fusmae.files import file_sha256, write_json, written_whole
from fusmae.modalities import ModalityInput

FORMAT = 1
MANIFEST = "manifest.json"
ReadPair = Callable[[Pair], dict[str, NDArray[Any]]]


@dataclass(frozen=True)
class PixelBatch:
    """Gathered pixels and labels of some pairs.

    Attributes:
        pixels: by input name, `[B, C, h, w]` in the dtype and units of the shards.
        labels: `[B, K]` uint8.
    """

    pixels: dict[str, NDArray[Any]]
    labels: NDArray[np.uint8]


def write_shards(
    pairs: Sequence[Pair],
    read: ReadPair,
    folder: Path,
    *,
    inputs: Sequence[ModalityInput],
    classes: Sequence[str],
    shard_pairs: int,
    progress: Callable[[Sequence[Any]], Iterable[Any]] = iter,
) -> None:
    """Write every split's shards, then the manifest that makes them valid; each shard whole or not at all.

    Args:
        pairs: the index.
        read: gives a pair's `[h, w]` array by band name, at native resolution.
        folder: where the splits' folders go.
        inputs: the arrays to store.
        classes: class names; the order of label columns.
        shard_pairs: pairs in one shard.
        progress: wraps the list of shards, to show how far it is.

    Raises:
        PairError: pixels are missing, not finite or in linear power; names pair and band.
        StorageError: the disk is full.
    """
    plan = [
        (folder / split / f"{start // shard_pairs:05d}", members[start : start + shard_pairs])
        for split in SPLITS
        for members in [[pair for pair in pairs if pair.split == split]]
        for start in range(0, len(members), shard_pairs)
    ]
    splits: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    for path, members in progress(plan):
        _write_shard(path, members, read, inputs, classes)
        splits[path.parent.name].append(
            {"name": path.name, "count": len(members), "sha256": file_sha256(path / MANIFEST)}
        )
    manifest = {
        "format": FORMAT,
        "inputs": [item.model_dump(mode="json") for item in inputs],
        "classes": list(classes),
        "splits": splits,
    }
    write_json(folder / MANIFEST, {**manifest, "sha256": _sha256_of(manifest)})


def _write_shard(
    path: Path, pairs: Sequence[Pair], read: ReadPair, inputs: Sequence[ModalityInput], classes: Sequence[str]
) -> None:
    arrays: dict[str, NDArray[Any]] = {
        item.name: np.empty((len(pairs), len(item.bands), item.side_px, item.side_px), PIXEL_DTYPES[item.units])
        for item in inputs
    }
    labels = np.zeros((len(pairs), len(classes)), np.uint8)
    for row, pair in enumerate(pairs):
        bands = read(pair)
        for item in inputs:
            arrays[item.name][row] = stack_bands(pair.key, bands, item)
        labels[row, [classes.index(label) for label in pair.labels]] = 1
    with written_whole(path) as partial:
        partial.mkdir()
        for name, array in {**arrays, "labels": labels}.items():
            _save(partial / f"{name}.npy", array)
        files = {file.name: file_sha256(file) for file in sorted(partial.glob("*.npy"))}
        write_json(partial / MANIFEST, {"format": FORMAT, "keys": [pair.key for pair in pairs], "files": files})


def _save(path: Path, array: NDArray[Any]) -> None:
    # Not np.save: its tofile loses the errno of a full disk. Not a writable memmap: a full disk kills the process.
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.data)


class ShardReader:
    """One split's pairs by global index, read from memory-mapped shards.

    Args:
        folder: the folder with `manifest.json`.
        split: which split.
        verify: compare every file with its checksum first.

    Raises:
        ShardError: no shards, another format, an empty split, or a checksum that is wrong (names the file).
    """

    def __init__(self, folder: Path, split: Split, *, verify: bool = True) -> None:
        manifest = _read_manifest(folder / MANIFEST)
        expected = manifest.pop("sha256", None)
        if (got := _sha256_of(manifest)) != expected:
            raise _damaged(folder / MANIFEST, got, expected)
        self.inputs = tuple(ModalityInput.model_validate(item) for item in manifest["inputs"])
        self.classes: tuple[str, ...] = tuple(manifest["classes"])
        shards = manifest["splits"][split]
        if not shards:
            raise ShardError(
                f"Split {split} in {folder} is empty.", expected="at least one pair", hint="dvc repro shard"
            )
        self.keys: list[str] = []
        self._arrays: list[dict[str, NDArray[Any]]] = []
        for shard in shards:
            path = folder / split / shard["name"]
            if verify:
                _verify(path / MANIFEST, shard["sha256"])
            members = _read_manifest(path / MANIFEST)
            if verify:
                for name, sha256 in members["files"].items():
                    _verify(path / name, sha256)
            self.keys += members["keys"]
            self._arrays.append({Path(name).stem: np.load(path / name, mmap_mode="r") for name in members["files"]})
        self._starts: list[int] = [0, *accumulate(shard["count"] for shard in shards)]

    def __len__(self) -> int:
        return self._starts[-1]

    @property
    def labels(self) -> NDArray[np.uint8]:
        """Labels of the whole split, `[N, K]`."""
        return np.concatenate([arrays["labels"] for arrays in self._arrays])

    def read(self, indices: Sequence[int]) -> PixelBatch:
        """Gather pairs by their index in the split, in the order given."""
        if len(self._arrays) == 1:
            rows = {name: array[list(indices)] for name, array in self._arrays[0].items()}
        else:
            places = [self._locate(index) for index in indices]
            rows = {
                name: np.stack([self._arrays[shard][name][row] for shard, row in places]) for name in self._arrays[0]
            }
        return PixelBatch(labels=rows.pop("labels"), pixels=rows)

    def _locate(self, index: int) -> tuple[int, int]:
        shard = bisect_right(self._starts, index) - 1
        return shard, index - self._starts[shard]


def _read_manifest(path: Path) -> Any:
    if not path.exists():
        raise ShardError(f"There are no shards: {path} is not there.", hint="dvc repro shard")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _damaged(path, error, "JSON") from error
    if manifest.get("format") != FORMAT:
        raise ShardError(f"{path} is of another shard format.", got=manifest.get("format"), expected=FORMAT)
    return manifest


def _verify(path: Path, expected: str) -> None:
    got = file_sha256(path) if path.exists() else "no such file"
    if got != expected:
        raise _damaged(path, got, expected)


def _sha256_of(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _damaged(path: Path, got: object, expected: object) -> ShardError:
    return ShardError(
        f"The checksum of {path} is wrong: the shard is damaged.",
        got=got,
        expected=expected,
        hint="dvc checkout --force data/shards, or dvc repro --force shard",
    )
