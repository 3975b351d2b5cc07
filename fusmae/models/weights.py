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

    Args:
        module: module that gets the weights.
        weights: tensors by parameter name.
        where: origin of the weights, for the error message.
        model: name of the module, likewise.
        optional: first parts of the names of tensors that may be missing.
        hint: what to do next, for the error message.

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
