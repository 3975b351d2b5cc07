"""Parameter groups and the learning-rate schedule of the MAE family."""

import math
from collections.abc import Callable
from typing import Any

import lightning as L
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

REFERENCE_BATCH = 256


def scaled_lr(base_lr: float, batch_size: int) -> float:
    """`base_lr · batch / 256` (Goyal et al. 2017, as MAE uses it)."""
    return base_lr * batch_size / REFERENCE_BATCH


def parameter_groups(
    module: nn.Module, *, lr: float, weight_decay: float, lr_scale: Callable[[str], float] = lambda _: 1.0
) -> list[dict[str, Any]]:
    """Trainable parameters grouped by learning rate and weight decay; 1-D parameters and tokens are not decayed.

    `lr_scale` returns the factor on the learning rate for a parameter's name, for layer decay.
    """
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        is_decayed = parameter.ndim > 1 and not name.endswith("_token")
        key = (lr * lr_scale(name), weight_decay if is_decayed else 0.0)
        group = groups.setdefault(key, {"lr": key[0], "weight_decay": key[1], "params": []})
        group["params"].append(parameter)
    return list(groups.values())


def warmup_cosine(optimizer: Optimizer, *, warmup_steps: int, total_steps: int) -> LambdaLR:
    """Schedule per step: linear warm-up, then half a cosine down to zero."""

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    return LambdaLR(optimizer, factor)


def scheduled(module: L.LightningModule, optimizer: Optimizer, warmup_epochs: float) -> OptimizerLRScheduler:
    """Optimizer with warm-up and a cosine over the trainer's whole run, as Lightning expects them.

    The module's trainer and data module are attached; `warmup_epochs` may be a fraction.
    """
    # Not trainer.estimated_stepping_batches: it sets the loader up before the resume checkpoint restores its position.
    steps_per_epoch = len(module.trainer.datamodule.train_dataloader())  # type: ignore[attr-defined]
    total, warmup = steps_per_epoch * (module.trainer.max_epochs or 1), round(steps_per_epoch * warmup_epochs)
    if module.trainer.max_steps > 0:
        total = min(total, module.trainer.max_steps)
    schedule = warmup_cosine(optimizer, warmup_steps=warmup, total_steps=total)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
