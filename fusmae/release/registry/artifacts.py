"""Reads and adds files beside the ONNX file of a registered version."""

import tempfile
from pathlib import Path
from typing import Any

from fusmae.release.registry.model_file import ModelFile
from fusmae.release.registry.versions import refusals_named

# Folder in which MLflow stores a logged model's extra files.
_EXTRA_FILES = "extra_files"


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
