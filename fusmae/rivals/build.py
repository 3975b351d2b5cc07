"""The list of rivals, and how one is made."""

from collections.abc import Sequence
from pathlib import Path

import torch

from fusmae.errors import ConfigError
from fusmae.modalities import ModalityInput, Statistics
from fusmae.rivals.copernicusfm import CopernicusFM
from fusmae.rivals.croma import Croma
from fusmae.rivals.dofa import Dofa
from fusmae.rivals.rival import Rival

_KINDS: dict[str, type[Rival]] = {kind.name: kind for kind in (Croma, Dofa, CopernicusFM)}

RIVALS: tuple[str, ...] = tuple(_KINDS)


def build_rival(
    name: str, inputs: Sequence[ModalityInput], statistics: Statistics, weights: Path | None, seed: int
) -> Rival:
    """Make a rival, frozen and in eval mode.

    Args:
        name: one of `RIVALS`.
        inputs: descriptions of its input arrays.
        statistics: mean and standard deviation of each band, in physical units.
        weights: path of a state dict as `.safetensors`, `.pth` or `.pt`; None for random initial weights.
        seed: random seed, on which alone random initial weights depend.

    Raises:
        ConfigError: the name is unknown, or the rival can't use the bands.
        CheckpointError: the file of weights is absent, damaged or of another model.
    """
    if name not in _KINDS:
        raise ConfigError("There is no such rival.", got=name, expected=f"one of {', '.join(RIVALS)}")
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: it would also seed each GPU, whose state is not restored.
        torch.default_generator.manual_seed(seed)
        rival = _KINDS[name](inputs, statistics)
    if weights is not None:
        rival.load(weights)
    return rival
