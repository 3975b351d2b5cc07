"""What a training run measured, epoch by epoch, and how long it took; survives restarts."""

import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback


class History(Callback):
    """Keeps every logged number by epoch.

    Attributes:
        points: (epoch, value) by name, as `train/loss`.
        seconds: of training batches, in all sessions together.
        pairs: that were trained on, likewise, by this process.
    """

    def __init__(self) -> None:
        self.points: dict[str, list[tuple[float, float]]] = {}
        self.seconds = 0.0
        self.pairs = 0
        self._since = 0.0

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        """Start the clock at a session's first batch."""
        self._since = self._since or time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the batch, the waiting for it included."""
        now = time.perf_counter()
        self.seconds, self._since = self.seconds + now - self._since, now
        self.pairs += len(batch.indices)

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Note the epoch's numbers, validation's among them; validation's time is not counted."""
        for name, value in trainer.callback_metrics.items():
            self.points.setdefault(name, []).append((float(trainer.current_epoch), float(value)))
        self._since = 0.0

    def state_dict(self) -> dict[str, Any]:
        """For the resume checkpoint."""
        return {"points": self.points, "seconds": self.seconds, "pairs": self.pairs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a resume checkpoint."""
        self.points, self.seconds, self.pairs = state["points"], state["seconds"], state["pairs"]
