"""The model version in memory that answers requests, and a thread that replaces it when the alias moves."""

import logging
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from fusmae.inference.devices import Device
from fusmae.inference.session import Session
from fusmae.modalities import tile_side_m
from fusmae.release.registry.model_file import ModelFile, model_file
from fusmae.serving.answers import ModelDescription, ModelName, RegistryHealth
from fusmae.serving.metrics import Metrics

_log = logging.getLogger("fusmae.serving")


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """One version in memory; its answers state which version it is."""

    file: ModelFile  # the ONNX file, with name, version and checksum
    session: Session  # session that runs the file
    # Time when it was ready, UTC, ISO 8601.
    loaded: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def identity(self) -> ModelName:
        """Name, version and checksum of the model."""
        file = self.file
        return ModelName(name=file.name or file.path.name, version=file.version, sha256=file.sha256)

    @property
    def description(self) -> ModelDescription:
        """What a client needs to know to send requests, and where the model comes from."""
        inputs, metadata = self.session.inputs, self.session.metadata
        return ModelDescription(
            **self.identity.model_dump(),
            inputs=[item.model_dump(mode="json") for item in inputs],
            modalities=metadata["modalities"],
            tile_m=tile_side_m(inputs),
            task=self.session.task,
            classes=list(self.session.classes),
            data=metadata.get("data", ""),
            git=metadata.get("git", {}),
        )


def load_model(file: ModelFile, device: Device = "cpu") -> LoadedModel:
    """Load a version and run it once, so that a version that can't run never replaces another.

    Raises:
        ConfigError: the device can't be used.
        ExportError: the file was not exported by this project.
    """
    session = Session(file.path, device=device)
    session.run({i.name: np.zeros((1, len(i.bands), i.side_px, i.side_px), np.float32) for i in session.inputs})
    return LoadedModel(file, session)


def find_model(reference: str, device: Device = "cpu") -> LoadedModel:
    """Load the version that a reference means now; its errors are those of `model_file` and `load_model`."""
    return load_model(model_file(reference), device)


class Watcher:
    """Queries the registry every `poll_s` seconds, and loads a new version while the old one still answers.

    The exchange is one assignment; a request that began with the old model finishes with it. Only an alias can move,
    so a version or a file is not watched. A failure is logged once, not at every query.

    Attributes:
        current: model that answers requests.
        registry: result of the last query.
    """

    def __init__(self, reference: str, first: LoadedModel, poll_s: float, metrics: Metrics) -> None:
        self.reference = reference
        self.current = first
        self._is_watching = "@" in reference and bool(first.file.name)
        self.registry = RegistryHealth(status="answers" if self._is_watching else "not watched", error="")
        self._poll_s = poll_s
        self._metrics = metrics
        self._stopped = threading.Event()
        metrics.show_model(first.identity)

    def start(self) -> None:
        """Begin to query, in a separate thread: the query of a registry that is down may take minutes to fail."""
        if self._is_watching:
            threading.Thread(target=self._watch, name="registry", daemon=True).start()

    def stop(self) -> None:
        """Stop querying; this does not wait for a query that has begun."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(self._poll_s):
            self._look()

    def _look(self) -> None:
        state = RegistryHealth(status="answers", error="")
        try:
            found = model_file(self.reference)
            before = self.current.file
            if (found.version, found.sha256) != (before.version, before.sha256):
                self.current = load_model(found, self.current.session.device)
                self._metrics.show_model(self.current.identity)
                self._metrics.reloads.inc()
                _log.info("%s is %s now, no longer %s", self.reference, found.label, before.label)
        except Exception as error:  # whatever the error is, the model in memory continues to answer
            state = RegistryHealth(status="fails", error=str(error))
        self._metrics.registry_queries.inc()
        self._metrics.registry_up.set(state.status == "answers")
        if state.status != self.registry.status:
            if state.error:
                _log.warning("%s goes on answering: %s", self.current.file.label, state.error)
            else:
                _log.info("the registry answers again")
        self.registry = state
