"""What a map's making has done so far, kept beside the output until the map is there."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from glob import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from fusmae.errors import InputError, StorageError
from fusmae.files import file_sha256, storage_error, written_whole
from fusmae.inference.scene.files import stored_in
from fusmae.inference.scene.grid import Grid, Unit
from fusmae.inference.scene.scene import Scene

_HEAD_BYTES = 2**16
_KEY_DIGITS = 16


@dataclass(frozen=True)
class Result:
    """What is known of a unit.

    Attributes:
        probabilities: `[tiles, K]`; NaN where no modality has data enough.
        has_data: `[rows, columns]` of the cells that the unit reports.
        look: `[1 or 3, h, w]`, what they look like, in one or more pixels a cell.
    """

    probabilities: NDArray[np.float32]
    has_data: NDArray[np.bool_]
    look: NDArray[np.float32]


class Work:
    """A folder with a file a unit, for one map only.

    Args:
        out: the map.
        key: names the folder: another model, scene, setting or line of code is another map.
    """

    def __init__(self, out: Path, key: str) -> None:
        self._out = out
        self.folder = out.with_name(f".{out.name}.{key}")

    def is_done(self, unit: Unit) -> bool:
        """Whether the unit's file is there: files are written whole or not at all."""
        return self._path(unit).exists()

    def save(self, unit: Unit, result: Result) -> None:
        """Keep what was found.

        Raises:
            StorageError: the disk is full or can't be written.
        """
        with written_whole(self._path(unit)) as partial, partial.open("wb") as file:
            np.savez(file, probabilities=result.probabilities, has_data=result.has_data, look=result.look)

    def load(self, unit: Unit) -> Result:
        """What was kept of a unit."""
        with np.load(self._path(unit)) as arrays:
            return Result(arrays["probabilities"], arrays["has_data"], arrays["look"])

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Keep other runs from the map until the block ends.

        Its folder goes where the block succeeds or its scenes can't be used; after a kill or a full disk the next run
        goes on there. On success the folders of maps that would have had the same name go, too: nobody makes one now.

        Raises:
            StorageError: another run holds the map, or its folder can't be written.
        """
        with _locked(self._out):
            try:
                yield
            except InputError:
                # Other scenes or options are other work: this folder would never be used again.
                shutil.rmtree(self.folder, ignore_errors=True)
                raise
            for folder in self._out.parent.glob(f".{escape(self._out.name)}.{'[0-9a-f]' * _KEY_DIGITS}"):
                shutil.rmtree(folder, ignore_errors=True)

    def _path(self, unit: Unit) -> Path:
        return self.folder / f"unit-{unit.number:06d}.npz"


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    path = out.with_name(f".{out.name}.lock")
    lock = FileLock(path, timeout=0)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise StorageError(
            f"Another run is writing {out}.", expected="one run a map", hint="wait for it, or name another --out"
        ) from error
    except OSError as error:
        raise storage_error(out, error) from error
    try:
        yield
    finally:
        # While it is held: who opened the file before finds it without a name once it has the lock, and begins again.
        with suppress(OSError):
            path.unlink()
        lock.release()


def work_key(model_sha256: str, scenes: Mapping[str, Scene], grid: Grid) -> str:
    """Names the work of one map.

    Args:
        model_sha256: of the ONNX file.
        scenes: files count by path, size, time of change and first 64 KiB: scenes are too large to hash whole.
        grid: where tiles and cells lie.
    """
    facts = {
        "model": model_sha256,
        "scenes": {modality: _facts(scene) for modality, scene in scenes.items()},
        "grid": repr(grid),
        "code": [file_sha256(file) for file in _code()],
        "versions": [version(name) for name in ("onnxruntime", "rasterio", "numpy")],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:_KEY_DIGITS]


def _code() -> list[Path]:
    """What a unit's pixels and probabilities depend on."""
    package = Path(__file__).parents[2]
    rooms = [file for room in ("inference", "rasters") for file in (package / room).rglob("*.py")]
    return sorted([*package.glob("*.py"), *rooms])


def _facts(scene: Scene) -> dict[str, Any]:
    bands = {name: [str(band.path.absolute()), band.index] for name, band in scene.bands.items()}
    return {"bands": bands, "reading": repr(scene.reading), "files": [_identity(path) for path in scene.files]}


def _identity(path: Path) -> list[Any]:
    # Of an archive all of its members change with it.
    stored = stored_in(path)
    found = stored.stat()
    with stored.open("rb") as file:
        head = hashlib.sha256(file.read(_HEAD_BYTES)).hexdigest()
    return [found.st_size, found.st_mtime_ns, head]
