"""The ONNX file behind a reference: a registered version, an alias, or a file."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from fusmae.errors import RegistryError
from fusmae.files import file_sha256, written_whole
from fusmae.release.registry import find_by_reference, refusals_named

CACHE = Path(".fusmae/models")
_REFERENCE = re.compile(r"(?:models:/)?(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<number>\d+))")


@dataclass(frozen=True)
class ModelFile:
    """An ONNX file that a model is run from.

    Attributes:
        path: the file.
        sha256: of its bytes.
        name: registered model; "" for a plain file.
        version: its number; "" for a plain file.
    """

    path: Path
    sha256: str
    name: str = ""
    version: str = ""

    @property
    def label(self) -> str:
        """How outputs name the model: `fusmae/3`, or the file's name."""
        return f"{self.name}/{self.version}" if self.name else self.path.name


def model_file(reference: str, cache: Path = CACHE) -> ModelFile:
    """The ONNX file that a reference means, downloaded once and compared with its checksum.

    Args:
        reference: `fusmae@champion`, `fusmae/3`, either with `models:/` before it, or the path of an ONNX file.
        cache: where downloads are kept, by checksum.

    Raises:
        RegistryError: no such file, model, version or alias; the registry does not answer; the file is another than
            the one that was registered.
    """
    if reference.endswith(".onnx"):
        if not Path(reference).is_file():
            raise RegistryError(f"There is no file {reference}.", hint="dvc repro export, or name a registered model")
        return ModelFile(Path(reference), file_sha256(Path(reference)))
    parts = _REFERENCE.fullmatch(reference)
    if parts is None:
        raise RegistryError(
            "That is no model.", got=reference, expected="NAME@ALIAS, NAME/VERSION or a file that ends in .onnx"
        )
    version = find_by_reference(parts["name"], alias=parts["alias"], number=parts["number"])
    path = cache / version.sha256 / "model.onnx"
    if not path.exists():
        _download(version.uri, version.sha256, path)
    return ModelFile(path, version.sha256, version.name, version.number)


def _download(uri: str, sha256: str, path: Path) -> None:
    from mlflow.artifacts import download_artifacts

    with written_whole(path.parent) as partial:
        partial.mkdir()
        with refusals_named(f"the files of {uri}"):
            folder = Path(download_artifacts(uri, dst_path=str(partial / "all")))
        got = file_sha256(folder / path.name) if (folder / path.name).exists() else "no such file"
        if got != sha256:
            raise RegistryError(
                f"{path.name} of {uri} is not the file that was registered.",
                got=got,
                expected=sha256,
                hint="someone changed the registry's files: register the model again, `dvc repro -f -s register`",
            )
        (folder / path.name).replace(partial / path.name)
        shutil.rmtree(partial / "all")
