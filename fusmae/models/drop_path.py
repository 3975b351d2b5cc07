"""Drop path (stochastic depth) whose draws come from outside."""

import torch
from torch import Tensor, nn


class DropPath(nn.Module):
    """Drops a block's branch for some rows, in training only, and scales up the other rows to compensate.

    The caller may set the random numbers that choose the rows. Then a pair's draw depends neither on the other pairs
    in the batch nor on the device.

    Args:
        drop_prob: probability that the branch is dropped for a row.
    """

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.drop_prob = drop_prob
        self.noise: Tensor | None = None
        """Uniform noise `[B]` for the next batch; None to draw it in `forward`."""

    def forward(self, branch: Tensor) -> Tensor:
        """The branch `[B, L, D]`, with zeros in the rows for which it is dropped."""
        if not self.training:
            return branch
        noise = torch.rand(branch.shape[0], device=branch.device) if self.noise is None else self.noise
        factor = (noise >= self.drop_prob).to(branch.dtype) / (1 - self.drop_prob)
        return branch * factor[:, None, None]
