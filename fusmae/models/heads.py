"""From latents to one vector per tile, and from that to labels: read-outs and linear heads."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fusmae.config.training import Readout
from fusmae.models.architecture import Architecture
from fusmae.models.attention import LAYER_NORM, initialise
from fusmae.models.encoder import Encoder, Latents

PROBE_EPS = 1e-6
"""Variance that a batch norm adds to its own."""

_SPREAD_FLOOR = 1e-6
"""Variance added under the square root, whose slope at 0 would be infinite."""


def readout_dim(sizes: Encoder | Architecture, readout: Readout) -> int:
    """The width of the vectors that `pool` returns: D; M·D for `concat`, 2·M·D for `spread`."""
    parts = {"mean": 1, "cls": 1, "concat": len(sizes.in_chans), "spread": 2 * len(sizes.in_chans)}
    return sizes.dim * parts[readout]


def _row_presence(latents: Latents, modalities: Sequence[str]) -> dict[str, Tensor]:
    """Flags `[B, 1]` by modality of the latents: 1 where the row has the modality, else 0."""
    present = {}
    for column, name in enumerate(modalities):
        if name in latents.tokens:
            tokens = latents.tokens[name]
            present[name] = torch.ones_like(tokens[:, 0, :1])
            if latents.presence is not None:
                present[name] = latents.presence[:, column, None].to(tokens.dtype)
    return present


def pool(latents: Latents, readout: Readout, modalities: Sequence[str]) -> Tensor:
    """Pool latents to one vector per row; a missing modality never enters it.

    Args:
        latents: output of the encoder.
        readout: way of pooling.
        modalities: names of all modalities in the encoder's order, present or not.

    Returns:
        `[B, D]`; `[B, M·D]` for `concat`, `[B, 2·M·D]` for `spread` (means, then deviations), with zeros for a missing
        modality.
    """
    if readout == "cls":
        return latents.cls
    present = _row_presence(latents, modalities)
    counts = {name: own * latents.tokens[name].shape[1] for name, own in present.items()}
    # torch.where, not a product: an absent modality's tokens must not matter, even if they are NaN.
    sums = {name: torch.where(count > 0, latents.tokens[name].sum(dim=1), 0.0) for name, count in counts.items()}
    if readout == "mean":
        total = torch.stack(list(counts.values())).sum(dim=0).clamp(min=1)
        return torch.stack(list(sums.values())).sum(dim=0) / total
    nothing = torch.zeros_like(latents.cls)
    means = [sums[name] / counts[name].clamp(min=1) if name in sums else nothing for name in modalities]
    if readout == "concat":
        return torch.cat(means, dim=1)
    spreads = [_spread(latents.tokens[name], present[name]) if name in sums else nothing for name in modalities]
    return torch.cat([*means, *spreads], dim=1)


def _spread(tokens: Tensor, present: Tensor) -> Tensor:
    """Standard deviation over tokens `[B, L, D]`: `[B, D]`; 0 in rows where `present` `[B, 1]` is 0."""
    # Rows are zeroed before the square as well, or a NaN in an absent row would reach the gradient.
    known = torch.where(present[..., None] > 0, tokens, 0.0)
    variance = (known - known.mean(dim=1, keepdim=True)).square().mean(dim=1)
    return torch.where(present > 0, (variance + _SPREAD_FLOOR).sqrt(), 0.0)


class _LinearHead(nn.Module):
    """A norm and a linear layer."""

    def __init__(self, norm: nn.Module, dim: int, num_classes: int) -> None:
        super().__init__()
        self.norm, self.linear = norm, nn.Linear(dim, num_classes)
        self.apply(initialise)

    def forward(self, pooled: Tensor) -> Tensor:
        """Pooled latents `[B, D]` to logits `[B, num_classes]`."""
        logits: Tensor = self.linear(self.norm(pooled))
        return logits


class ProbeHead(_LinearHead):
    """A linear read-out of a frozen encoder, after a batch norm without parameters (MAE's probe)."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__(nn.BatchNorm1d(dim, affine=False, eps=PROBE_EPS), dim, num_classes)


class ClassifierHead(_LinearHead):
    """Layer norm and a linear layer to logits or a value, to finetune together with the encoder."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__(LAYER_NORM(dim), dim, num_classes)
