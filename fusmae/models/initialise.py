"""How weights start: the MAE recipe."""

from torch import nn

TOKEN_STD = 0.02
"""Standard deviation of a learned token (CLS, mask) at the start."""


def initialise(module: nn.Module) -> None:
    """Start one module's weights: Xavier on linear layers, LayerNorm 1/0, biases 0. For `nn.Module.apply`.

    The patch projection is a linear layer over flattened patches, so MAE's "Xavier on the projection
    seen as a matrix" is the same rule.
    """
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
