"""The model that answers, and the thread that exchanges it when the alias moves."""

import logging
import threading
from dataclasses import dataclass

from fusmae.release.registry.model_file import model_file
from fusmae.serving.loaded import LoadedModel, load_model
from fusmae.serving.metrics import Metrics

_log = logging.getLogger("fusmae.serving")


@dataclass(frozen=True)
class RegistryState:
    """What the last look at the registry gave.

    Attributes:
        status: not watched, answers or fails.
        error: why it fails.
    """

    status: str
    error: str = ""


class Watcher:
    """Looks at the registry every `poll_s` seconds and loads another version beside the one that answers.

    The exchange is one assignment: who took the old model finishes on it. Only an alias can move, so that a version
    or a file is not watched. What goes wrong is logged once, not at every look.

    Args:
        reference: what the user named.
        first: the version to begin with.
        poll_s: seconds between two looks.
        metrics: told of each version and of the registry's state.

    Attributes:
        current: the model that answers.
        registry: what the last look gave.
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
        """Begin to look; a thread of its own, for a registry that is down may take minutes to say so."""
        if self._is_watching:
            threading.Thread(target=self._watch, name="registry", daemon=True).start()

    def stop(self) -> None:
        """Look no more; a look that has begun is not waited for."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(self._poll_s):
            self._look()

    def _look(self) -> None:
        try:
            found = model_file(self.reference)
            if (found.version, found.sha256) != (self.current.file.version, self.current.file.sha256):
                self._exchange(load_model(found))
        except Exception as error:  # whatever it is, the model in memory goes on answering
            self._note(RegistryState("fails", str(error)))
        else:
            self._note(RegistryState("answers"))

    def _exchange(self, model: LoadedModel) -> None:
        before, self.current = self.current, model
        self._metrics.show_model(model.identity)
        self._metrics.reloads.inc()
        _log.info("%s is %s now, no longer %s", self.reference, model.file.label, before.file.label)

    def _note(self, state: RegistryState) -> None:
        self._metrics.looks.inc()
        self._metrics.registry_up.set(state.status == "answers")
        if state.status != self.registry.status:
            if state.error:
                _log.warning("%s goes on answering: %s", self.current.file.label, state.error)
            else:
                _log.info("the registry answers again")
        self.registry = state
