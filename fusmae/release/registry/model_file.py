"""Finds the ONNX file behind a reference to a registered version, an alias, or a file; and the files beside it."""

import re
import shutil
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock

from fusmae.errors import RegistryError
from fusmae.files import file_sha256, storage_error, written_whole
from fusmae.release.registry.versions import find_by_reference, refusals_named

CACHE = Path(".fusmae/models")
RESTORE = (
    "restore the registry's files from a backup; without one, register a version from a later commit: "
    "`dvc repro -f -s export`, then `dvc repro`"
)
"""Advice where a file of a version is not the one that was registered."""
# Folder in which MLflow stores a logged model's extra files.
_EXTRA_FILES = "extra_files"
REFERENCE = re.compile(r"(?:models:/)?(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<number>\d+))")
"""A registered version: `fusmae@champion`, `fusmae/3`, either with `models:/` before it."""


@dataclass(frozen=True)
class ModelFile:
    """The ONNX file of a model."""

    path: Path  # path of the file
    sha256: str  # SHA-256 of the file
    name: str = ""  # name of the registered model; "" for a plain file
    version: str = ""  # number of the version; "" for a plain file

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
    model = registered_version(reference, cache)
    path, sha256 = model.path, model.sha256
    if _sha256(path) == sha256:
        return model
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = FileLock(cache / f"{sha256}.lock").acquire()
    except OSError as error:
        raise storage_error(path, error) from error
    with lock:
        if _sha256(path) != sha256:  # another process may have downloaded it while this one waited
            _download(model)
    return model


def registered_version(reference: str, cache: Path = CACHE) -> ModelFile:
    """The registered version that a reference means; its ONNX file may not be downloaded yet.

    Raises:
        RegistryError: there is no such model, version or alias; or the registry does not answer.
    """
    parts = REFERENCE.fullmatch(reference)
    if parts is None:
        raise RegistryError(
            "This is not a reference to a model.",
            got=reference,
            expected="NAME@ALIAS, NAME/VERSION or a file that ends in .onnx",
        )
    version = find_by_reference(parts["name"], alias=parts["alias"], number=parts["number"])
    return ModelFile(cache / version.sha256 / "model.onnx", version.sha256, version.name, version.number)


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


def _download(model: ModelFile) -> None:
    from mlflow.artifacts import download_artifacts

    path, uri = model.path, f"models:/{model.label}"
    with written_whole(path.parent) as partial:
        partial.mkdir()
        # Only this file is downloaded: the version has other graphs beside it.
        with refusals_named(f"{path.name} of {uri}"):
            found = Path(download_artifacts(f"{uri}/{path.name}", dst_path=str(partial / "all")))
        if (got := file_sha256(found)) != model.sha256:
            raise RegistryError(
                f"{path.name} of {uri} is not the file that was registered.",
                got=got,
                expected=model.sha256,
                hint=RESTORE,
            )
        found.replace(partial / path.name)
        shutil.rmtree(partial / "all")


def read_artifact(model: ModelFile, name: str) -> str | None:
    """Read the text of a file that was registered with a version, such as `parity.json`; None if there is no such file.

    Raises:
        RegistryError: MLflow does not answer.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = fetch_artifact(model, name, Path(folder))
        return None if path is None else path.read_text(encoding="utf-8")


def fetch_artifact(model: ModelFile, name: str, folder: Path) -> Path | None:
    """Download a file that was registered with a version into a folder; None if there is no such file.

    Raises:
        RegistryError: MLflow does not answer.
    """
    from mlflow.artifacts import download_artifacts

    with refusals_named(f"{name} of {model.label}") as client:
        known = client.list_logged_model_artifacts(_logged_model(client, model), _EXTRA_FILES)
        if not any(Path(item.path).name == name for item in known):
            return None
        return Path(download_artifacts(f"models:/{model.label}/{_EXTRA_FILES}/{name}", dst_path=str(folder)))


def add_artifacts(model: ModelFile, folder: Path, place: str) -> None:
    """Store the files of a folder with a version, in the folder `place` among its files.

    Raises:
        RegistryError: MLflow does not answer.
    """
    with refusals_named(f"space for files of {model.label}") as client:
        client.log_model_artifacts(_logged_model(client, model), str(folder), place)


def _logged_model(client: Any, model: ModelFile) -> str:
    """The id of MLflow's logged model; a version that was registered by a URI has the id only in its source."""
    version = client.get_model_version(model.name, model.version)
    return str(version.model_id or str(version.source).removeprefix("models:/"))
