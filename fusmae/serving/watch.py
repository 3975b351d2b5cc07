"""Holds the model that answers requests; a thread replaces it when the alias moves."""

import logging
import threading
from dataclasses import dataclass

from fusmae.release.registry.model_file import model_file
from fusmae.serving.loaded import LoadedModel, load_model
from fusmae.serving.metrics import Metrics

_log = logging.getLogger("fusmae.serving")


@dataclass(frozen=True)
class RegistryState:
    """The result of the last query of the registry.

    Attributes:
        status: state of the registry: `not watched`, `answers` or `fails`.
        error: message of the failure; "" without one.
    """

    status: str
    error: str = ""


class Watcher:
    """Queries the registry every `poll_s` seconds, and loads a new version while the old one still answers.

    The exchange is one assignment; a request that began with the old model finishes with it. Only an alias can move,
    so a version or a file is not watched. A failure is logged once, not at every query.

    Args:
        reference: reference of the model as the user gave it.
        first: version to begin with.
        poll_s: seconds between two queries.
        metrics: metrics to which each version and the registry's state are written.

    Attributes:
        current: model that answers requests.
        registry: result of the last query.
    """

    def __init__(self, reference: str, first: LoadedModel, poll_s: float, metrics: Metrics) -> None:
        self.reference = reference
        self.current = first
        self._is_watching = "@" in reference and bool(first.file.name)
        self.registry = RegistryState("answers" if self._is_watching else "not watched")
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
        try:
            found = model_file(self.reference)
            if (found.version, found.sha256) != (self.current.file.version, self.current.file.sha256):
                self._exchange(load_model(found))
        except Exception as error:  # whatever the error is, the model in memory continues to answer
            self._note(RegistryState("fails", str(error)))
        else:
            self._note(RegistryState("answers"))

    def _exchange(self, model: LoadedModel) -> None:
        before, self.current = self.current, model
        self._metrics.show_model(model.identity)
        self._metrics.reloads.inc()
        _log.info("%s is %s now, no longer %s", self.reference, model.file.label, before.file.label)

    def _note(self, state: RegistryState) -> None:
        self._metrics.registry_queries.inc()
        self._metrics.registry_up.set(state.status == "answers")
        if state.status != self.registry.status:
            if state.error:
                _log.warning("%s goes on answering: %s", self.current.file.label, state.error)
            else:
                _log.info("the registry answers again")
        self.registry = state
