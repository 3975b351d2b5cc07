"""Stores the results of units beside the output until it is written, so that a killed run can be continued.

A map and pairs cut from scenes are made in this way.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from fusmae.errors import InputError, StorageError
from fusmae.files import file_sha256, storage_error, written_whole
from fusmae.inference.scene.files import stored_in
from fusmae.inference.scene.grid import Grid, Unit
from fusmae.inference.scene.scene import Scene
from fusmae.inference.scene.stac_assets import ItemAsset
from fusmae.runs.environment import installed_version

_HEAD_BYTES = 2**16
_KEY_DIGITS = 16

R = TypeVar("R")


@dataclass(frozen=True)
class TileResult:
    """The answers of a unit's tiles, where a tile has one answer."""

    # `[tiles, K]`, probabilities of classes or a value; NaN for tiles where no modality has enough data.
    answers: NDArray[np.float32]
    has_data: NDArray[np.bool_]  # `[rows, columns]`, true for cells with data, of the cells that belong to the unit
    look: NDArray[np.float32]  # `[1 or 3, h, w]`, the scene in these cells, with one or more pixels along a cell's side


class Work(Generic[R]):
    """A folder with one file per unit, for the output `out` only, with `work_key` as a part of its name.

    `result` is the type of a unit's result: a dataclass whose fields are arrays.
    """

    def __init__(self, out: Path, key: str, result: type[R]) -> None:
        self._out, self._result = out, result
        self.folder = out.with_name(f".{out.name}.{key}")

    def is_done(self, unit: Unit) -> bool:
        """Whether the unit's file exists; files are written whole or not at all."""
        return self._path(unit).exists()

    def save(self, unit: Unit, result: R) -> None:
        """Store the result of a unit; raises StorageError if the disk is full or can't be written."""
        with written_whole(self._path(unit)) as partial, partial.open("wb") as file:
            np.savez(file, **vars(result))

    def load(self, unit: Unit) -> R:
        """Read the stored result of a unit."""
        with np.load(self._path(unit)) as arrays:
            return self._result(**arrays)

    def load_array(self, unit: Unit, name: str) -> NDArray[Any]:
        """Read one array of the stored result of a unit."""
        with np.load(self._path(unit)) as arrays:
            array: NDArray[Any] = arrays[name]
            return array

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Keep other runs from writing this output until the block ends.

        The folder is removed if the block succeeds or its scenes can't be used; after a kill or a full disk the next
        run continues with it. On success, folders of other runs with the same path are removed, too: their runs ended,
        since only one run at a time can claim a path.

        Raises:
            StorageError: another run holds the output, or its folder can't be written.
        """
        path = self._out.with_name(f".{self._out.name}.lock")
        lock = FileLock(path, timeout=0)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout as error:
            raise StorageError(
                f"Another run is writing {self._out}.",
                expected="one run at a time",
                hint="wait for it, or name another --out",
            ) from error
        except OSError as error:
            raise storage_error(self._out, error) from error
        try:
            yield
            for folder in path.parent.glob(f".{escape(self._out.name)}.{'[0-9a-f]' * _KEY_DIGITS}"):
                shutil.rmtree(folder, ignore_errors=True)
        except InputError:
            # Other scenes or options have another folder: this one would never be used again.
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        finally:
            # The file is removed while the lock is held: another process that opened it before and then gets the lock
            # finds that the file has no name any more, and tries again.
            with suppress(OSError):
                path.unlink()
            lock.release()

    def _path(self, unit: Unit) -> Path:
        return self.folder / f"unit-{unit.number:06d}.npz"


@contextmanager
def disk_named(out: Path, kept: str) -> Iterator[None]:
    """Turn errors from writing rasters of the output `out` into a StorageError, which states what was `kept`."""
    try:
        yield
    except OSError as error:
        raise storage_error(out, error, kept) from error
    except RasterioError as error:
        raise StorageError(
            f"{out} could not be written: {error.__cause__ or error}; {kept}.",
            hint="make room on the disk, then run the same command again",
        ) from error


def work_key(maker: str, scenes: Mapping[str, Scene], grid: Grid) -> str:
    """The key of one output's work: another maker, scene, setting or code has another.

    `maker` is a text that says what else the output depends on, as the SHA-256 of a model. Scenes are too large to hash
    whole: their files count by path, size, time of change and first 64 KiB.
    """
    package = Path(__file__).parents[2]
    rooms = [file for room in ("inference", "rasters") for file in (package / room).rglob("*.py")]
    facts = {
        "model": maker,
        "scenes": {
            modality: {
                "bands": {name: [_place(band.path), band.index] for name, band in scene.bands.items()},
                "reading": repr(scene.reading),
                "files": [_identity(path) for path in scene.files],
            }
            for modality, scene in scenes.items()
        },
        "grid": repr(grid),
        # What a unit's pixels and answers depend on.
        "code": [file_sha256(file) for file in sorted([*package.glob("*.py"), *rooms])],
        "versions": [installed_version(name) for name in ("onnxruntime", "rasterio", "numpy")],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:_KEY_DIGITS]


def _place(path: Path | ItemAsset) -> Any:
    return path.identity if isinstance(path, ItemAsset) else str(path.absolute())


def _identity(path: Path | ItemAsset) -> list[Any]:
    if isinstance(path, ItemAsset):
        if path.file is None:  # an object of a catalogue does not change
            return path.identity
        path = path.file
    stored = stored_in(path)  # for a file in an archive, it is the archive that counts
    state = stored.stat()
    with stored.open("rb") as file:
        return [state.st_size, state.st_mtime_ns, hashlib.sha256(file.read(_HEAD_BYTES)).hexdigest()]
