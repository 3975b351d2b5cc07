"""Drop path (stochastic depth) whose draws come from outside."""

import torch
from torch import Tensor, nn


class DropPath(nn.Module):
    """Leaves a block's branch out for some rows, in training only; the others are scaled up to make up for it.

    Which rows is told from outside where that is wanted: a pair's draw then depends neither on the pairs beside it
    in the batch nor on the device.

    Args:
        drop_prob: chance that a row does without the branch.
    """

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.drop_prob = drop_prob
        self.noise: Tensor | None = None
        """`[B]` uniform, for the batch that comes next; None to draw it here."""

    def forward(self, branch: Tensor) -> Tensor:
        """A branch `[B, L, D]`, zeros in the rows that do without."""
        if not self.training:
            return branch
        noise = torch.rand(branch.shape[0], device=branch.device) if self.noise is None else self.noise
        factor = (noise >= self.drop_prob).to(branch.dtype) / (1 - self.drop_prob)
        return branch * factor[:, None, None]
