"""Loading weights by name into a module that they must fit."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from fusmae.errors import CheckpointError


def load_weights(
    module: nn.Module,
    weights: Mapping[str, Tensor],
    where: Path | str,
    *,
    model: str = "the model",
    optional: tuple[str, ...] = (),
    hint: str = "retrain with the present params.yaml: dvc repro",
) -> None:
    """Load weights whose names and shapes must be exactly those of the module, or else leave it as it was.

    Tensors whose names begin with one of `optional` may be missing. `where`, `model` and `hint` are for the message.

    Raises:
        CheckpointError: weights are missing, left over or of another shape; the message lists them.
    """
    own = module.state_dict()
    missing = sorted(name for name in own.keys() - weights.keys() if not name.startswith(optional))
    extra = sorted(weights.keys() - own.keys())
    shapes = {
        name: f"{tuple(weights[name].shape)} for {tuple(own[name].shape)}"
        for name in sorted(own.keys() & weights.keys())
        if weights[name].shape != own[name].shape
    }
    if missing or extra or shapes:
        raise CheckpointError(
            f"The weights in {where} do not fit {model}.",
            got={"missing": missing[:5], "left over": extra[:5], "shapes": dict(list(shapes.items())[:5])},
            expected=f"{len(own)} tensors of {model}'s names and shapes",
            hint=hint,
        )
    module.load_state_dict(dict(weights), strict=False)
