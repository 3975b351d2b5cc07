"""Record of a training run's numbers, epoch by epoch, and of its duration; it survives restarts."""

import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback


class History(Callback):
    """Keeps every logged number by epoch.

    Attributes:
        points: points (epoch, value) by name of the number, like `train/loss`.
        seconds: duration of all training batches in seconds, summed over restarts.
        pairs: number of pairs that this process has trained on, summed over restarts.
    """

    def __init__(self) -> None:
        self.points: dict[str, list[tuple[float, float]]] = {}
        self.seconds = 0.0
        self.pairs = 0
        self._since = 0.0

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        """Start the clock at the first batch after a start and after each epoch."""
        self._since = self._since or time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the batch's duration, including the time spent waiting for it."""
        now = time.perf_counter()
        self.seconds, self._since = self.seconds + now - self._since, now
        self.pairs += len(batch.indices)

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Record the epoch's numbers, including those of validation; the duration of validation is not counted."""
        for name, value in trainer.callback_metrics.items():
            self.points.setdefault(name, []).append((float(trainer.current_epoch), float(value)))
        self._since = 0.0

    def state_dict(self) -> dict[str, Any]:
        """State for the resume checkpoint."""
        return {"points": self.points, "seconds": self.seconds, "pairs": self.pairs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state from a resume checkpoint."""
        self.points, self.seconds, self.pairs = state["points"], state["seconds"], state["pairs"]
