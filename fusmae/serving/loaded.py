"""A model version in memory, ready to answer requests."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from fusmae.inference.session import Session
from fusmae.release.registry.model_file import ModelFile, model_file


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """One version in memory; its answers state which version it is.

    Attributes:
        file: the ONNX file, with name, version and checksum.
        session: session that runs the file.
        loaded: time when it was ready, UTC, ISO 8601.
    """

    file: ModelFile
    session: Session
    loaded: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def tile_m(self) -> int:
        """Side of a tile in metres."""
        return self.session.inputs[0].side_px * self.session.inputs[0].gsd_m

    @property
    def identity(self) -> dict[str, str]:
        """Name, version and checksum of the model."""
        return {"name": self.file.name or self.file.path.name, "version": self.file.version, "sha256": self.file.sha256}

    @property
    def description(self) -> dict[str, Any]:
        """What a client needs to know to send requests, and where the model comes from."""
        metadata = self.session.metadata
        return {
            **self.identity,
            "inputs": [item.model_dump(mode="json") for item in self.session.inputs],
            "modalities": metadata["modalities"],
            "tile_m": self.tile_m,
            "classes": metadata["classes"],
            "data": metadata.get("data", ""),
            "git": metadata.get("git", {}),
        }


def load_model(file: ModelFile) -> LoadedModel:
    """Load a version and run it once, so that a version that can't run never replaces another.

    Raises:
        ExportError: the file was not exported by this project.
    """
    session = Session(file.path)
    session.run({i.name: np.zeros((1, len(i.bands), i.side_px, i.side_px), np.float32) for i in session.inputs})
    return LoadedModel(file, session)


def find_model(reference: str) -> LoadedModel:
    """Load the version that a reference means now.

    Raises:
        RegistryError: see `model_file`.
        ExportError: the file was not exported by this project.
    """
    return load_model(model_file(reference))
