"""Initial weights, as in the MAE recipe."""

from torch import nn

TOKEN_STD = 0.02
"""Standard deviation of the initial values of a learned token (CLS, mask)."""


def initialise(module: nn.Module) -> None:
    """Initialise one module: linear weights by Xavier, LayerNorm to 1 and 0, biases to 0. For `nn.Module.apply`.

    The patch projection is a linear layer over flattened patches, so MAE's "Xavier on the projection
    seen as a matrix" is the same rule.
    """
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
