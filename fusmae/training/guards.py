"""Guards that stop a run at the first number that is not finite, before it reaches weights or a checkpoint."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from fusmae.errors import TrainingError


def refuse_non_finite(value: Tensor, what: str, module: L.LightningModule, batch_idx: int) -> None:
    """Stop a run at the first NaN or infinity, before it reaches weights or a checkpoint.

    Raises:
        TrainingError: the value is not finite; the message names it and the step.
    """
    if torch.isfinite(value).all():
        return
    raise TrainingError(
        f"The {what} is not finite at step {module.global_step} (epoch {module.current_epoch}, batch {batch_idx}).",
        got=value.item(),
        expected="a finite number; the last good checkpoint is kept",
        hint="lower base_lr in params.yaml, or look for extreme pixels; then `dvc repro`",
    )


class FiniteGradients(Callback):
    """Refuses an optimizer step whose gradients are not finite: a finite loss can have them."""

    def on_before_optimizer_step(self, trainer: L.Trainer, module: L.LightningModule, optimizer: Any) -> None:
        """Check every gradient before weights change.

        Raises:
            TrainingError: gradients are not finite; the message names the step and the parameters.
        """
        named = [(name, parameter.grad) for name, parameter in module.named_parameters() if parameter.grad is not None]
        if torch.isfinite(torch.nn.utils.get_total_norm([grad for _, grad in named])):
            return
        bad = [name for name, grad in named if not torch.isfinite(grad).all()]
        if not bad:  # all gradients are finite, and only the sum of their squares overflowed
            return
        raise TrainingError(
            f"Gradients are not finite at step {trainer.global_step}, in {len(bad)} parameters: {', '.join(bad[:3])}.",
            expected="finite gradients; the last good checkpoint is kept",
            hint="lower base_lr in params.yaml, then `dvc repro`",
        )
