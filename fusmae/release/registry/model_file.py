"""Finds the ONNX file behind a reference to a registered version, an alias, or a file."""

import re
import shutil
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from filelock import FileLock

from fusmae.errors import RegistryError
from fusmae.files import file_sha256, storage_error, written_whole
from fusmae.release.registry.versions import Version, find_by_reference, refusals_named

CACHE = Path(".fusmae/models")
_REFERENCE = re.compile(r"(?:models:/)?(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<number>\d+))")


@dataclass(frozen=True)
class ModelFile:
    """The ONNX file of a model.

    Attributes:
        path: path of the file.
        sha256: SHA-256 of the file.
        name: name of the registered model; "" for a plain file.
        version: number of the version; "" for a plain file.
    """

    path: Path
    sha256: str
    name: str = ""
    version: str = ""

    @property
    def label(self) -> str:
        """Name of the model in outputs: `fusmae/3`, or the file's name."""
        return f"{self.name}/{self.version}" if self.name else self.path.name


def model_file(reference: str, cache: Path = CACHE) -> ModelFile:
    """Get the ONNX file that a reference means; it is downloaded once, and again if the cached file has changed.

    Args:
        reference: `fusmae@champion`, `fusmae/3`, either with `models:/` before it, or the path of an ONNX file.
        cache: folder of the downloads, one folder per checksum.

    Raises:
        RegistryError: there is no such file, model, version or alias; the registry does not answer; or its file is not
            the one that was registered.
        StorageError: the cache can't be written.
    """
    if reference.endswith(".onnx"):
        if not Path(reference).is_file():
            raise RegistryError(f"There is no file {reference}.", hint="dvc repro export, or name a registered model")
        return ModelFile(Path(reference), file_sha256(Path(reference)))
    parts = _REFERENCE.fullmatch(reference)
    if parts is None:
        raise RegistryError(
            "This is not a reference to a model.",
            got=reference,
            expected="NAME@ALIAS, NAME/VERSION or a file that ends in .onnx",
        )
    version = find_by_reference(parts["name"], alias=parts["alias"], number=parts["number"])
    return ModelFile(_cached(version, cache), version.sha256, version.name, version.number)


def _cached(version: Version, cache: Path) -> Path:
    path = cache / version.sha256 / "model.onnx"
    if _sha256(path) == version.sha256:
        return path
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = FileLock(cache / f"{version.sha256}.lock").acquire()
    except OSError as error:
        raise storage_error(path, error) from error
    with lock:
        if _sha256(path) != version.sha256:  # another process may have downloaded it while this one waited
            _download(version, path)
    return path


def _sha256(path: Path) -> str:
    """SHA-256 of the file as it is now; "" if it does not exist."""
    try:
        now = path.stat()
        return _sha256_of_state(path, (now.st_ino, now.st_size, now.st_ctime_ns))
    except (FileNotFoundError, NotADirectoryError):
        return ""


@lru_cache(maxsize=16)
def _sha256_of_state(path: Path, state: tuple[int, ...]) -> str:  # noqa: ARG001
    """SHA-256 of a file in a state (inode, size and ctime, which every write changes).

    A process reads the file once per state, since a service asks every few seconds.
    """
    return file_sha256(path)


def _download(version: Version, path: Path) -> None:
    from mlflow.artifacts import download_artifacts

    with written_whole(path.parent) as partial:
        partial.mkdir()
        # Only this file is downloaded: the version has other graphs beside it.
        with refusals_named(f"{path.name} of {version.uri}"):
            found = Path(download_artifacts(f"{version.uri}/{path.name}", dst_path=str(partial / "all")))
        if (got := file_sha256(found)) != version.sha256:
            raise RegistryError(
                f"{path.name} of {version.uri} is not the file that was registered.",
                got=got,
                expected=version.sha256,
                hint="restore the registry's files from a backup; without one, register a version from a later commit: "
                "`dvc repro -f -s export`, then `dvc repro`",
            )
        found.replace(partial / path.name)
        shutil.rmtree(partial / "all")
