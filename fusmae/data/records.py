"""Fixed-size records of pixels as shards store them, read by one system call straight into the arrays of a batch."""

import os
import threading
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.errors import ShardError
from fusmae.modalities import ModalityInput
from fusmae.units import Unit

# Limits of one read call of the kernel; a record takes one buffer per field.
_BUFFERS_A_CALL = 1024
_BYTES_A_CALL = 2**30
WHOLE = ""
"""Name of the array of records without fields."""


def record_dtype(inputs: Sequence[ModalityInput]) -> np.dtype[Any]:
    """Type of one pair's record: one field per input, without padding."""
    return np.dtype([(item.name, item.unit.stored, (len(item.bands), item.side_px, item.side_px)) for item in inputs])


def to_stored(pixels: NDArray[Any], unit: Unit) -> NDArray[Any]:
    """Convert checked pixels of any shape to the form in which shards store them, at most half a step off."""
    if unit.step is None:
        return pixels.astype(unit.stored, copy=False)
    return np.rint(pixels * (1 / unit.step)).astype(unit.stored)


def to_physical(stored: NDArray[Any], unit: Unit) -> NDArray[Any]:
    """Convert stored pixels of any shape to their unit."""
    return stored if unit.step is None else stored * np.float32(unit.step)


def map_dtype(side_px: int, pixel: str = "uint8") -> np.dtype[Any]:
    """Type of one pair's map, whose pixels have the type `pixel`: a record without fields."""
    return np.dtype((np.dtype(pixel), (side_px, side_px)))


def first_record(path: Path, count: int, dtype: np.dtype[Any]) -> int:
    """Offset in bytes at which the first record of a file of `count` records starts.

    Raises:
        ShardError: the file is absent, or its header states another number or type of records.
    """
    if not path.exists():
        raise damaged(path, "no such file", "a file of the shard")
    shape = (count, *dtype.shape)
    with path.open("rb") as file:
        try:
            np.lib.format.read_magic(file)
            found = np.lib.format.read_array_header_1_0(file)
        except ValueError as error:
            raise damaged(path, error, "NumPy's array format") from error
        if (found[0], found[2]) != (shape, dtype.base):
            raise damaged(path, f"{found[0]} of {found[2]}", f"{shape} of {dtype.base}")
        return file.tell()


class _Descriptor:
    """An open file, closed when nothing refers to it any more."""

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        os.close(self.number)


class Files(threading.local):
    """Files open for reading, the `limit` that were used last. Each thread has its own."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._opened = lru_cache(limit)(_Descriptor)

    def __call__(self, path: Path) -> int:
        """The descriptor of a file, which is opened first if it isn't open."""
        return self._opened(path).number

    def __reduce__(self) -> tuple[Any, ...]:
        # Descriptors are not valid in another process.
        return Files, (self._limit,)


def read_records(
    runs: Iterable[tuple[Path, int, int, range]], count: int, dtype: np.dtype[Any]
) -> dict[str, NDArray[Any]]:
    """Read `count` records, one run behind the other, into one array `[count, …]` by field: `WHOLE` without fields.

    A run is a file's path and descriptor, the offset in bytes of its first record, and consecutive rows of it.

    Raises:
        ShardError: a file ends early.
    """
    fields = {name: dtype[name] for name in dtype.names} if dtype.names else {WHOLE: dtype}
    arrays = {name: np.empty((count, *field.shape), field.base) for name, field in fields.items()}
    views = [(array.reshape(-1).view(np.uint8).data, array[:1].nbytes) for array in arrays.values()]
    at_once = max(1, min(_BUFFERS_A_CALL // len(fields), _BYTES_A_CALL // dtype.itemsize))
    place = 0
    for path, descriptor, start, rows in runs:
        for part in (rows[at : at + at_once] for at in range(0, len(rows), at_once)):
            places = range(place, place + len(part))
            buffers = [view[at * size : (at + 1) * size] for at in places for view, size in views]
            place, wanted = places.stop, len(part) * dtype.itemsize
            got = os.preadv(descriptor, buffers, start + part.start * dtype.itemsize)
            if got != wanted:
                raise damaged(path, f"{got} bytes at record {part.start}", f"{wanted} bytes")
    return arrays


def damaged(path: Path, got: object, expected: object) -> ShardError:
    """The error for a file that differs from what its manifest states."""
    return ShardError(
        f"The checksum of {path} is wrong: the shard is damaged.",
        got=got,
        expected=expected,
        hint="dvc checkout --force data/shards, or dvc repro -f -s shard",
    )
