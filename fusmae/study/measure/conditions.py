"""What an encoder is given in a test: every modality, one of them, or clouds over the optical one."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from fusmae.data.datamodule import Batch
from fusmae.evaluation.clouds import clouded

CLOUDED = "s2"
"""The modality that clouds hide."""


@dataclass(frozen=True)
class Condition:
    """One way in which test pairs come.

    Attributes:
        name: `s1+s2`, `s1`, `s2`, `s1+clouded s2`.
        setting: what the encoder gets of it: the modalities that it has.
        is_clouded: s2 is under cloud.
    """

    name: str
    setting: tuple[str, ...]
    is_clouded: bool


@dataclass(frozen=True)
class Weather:
    """The clouds of degraded input.

    Attributes:
        seed: of their shapes; the same for every variant and seed of a study.
        share: of a tile that is hidden.
    """

    seed: int
    share: float


def seen(batch: Batch, condition: Condition, weather: Weather) -> dict[str, Tensor]:
    """What an encoder gets of a batch: pixels by input name, on the CPU."""
    pixels = batch.only(condition.setting)
    return clouded(pixels, batch.indices, weather.seed, weather.share) if condition.is_clouded else pixels


def conditions_of(available: Sequence[str], own: Sequence[str]) -> list[Condition]:
    """Every condition under which an encoder has something to see, the one with all modalities first.

    Args:
        available: modalities of the data, in order.
        own: those that the encoder has.
    """
    given = [tuple(available), *((name,) for name in available if len(available) > 1)]
    found = [Condition("+".join(names), tuple(name for name in names if name in own), False) for names in given]
    if CLOUDED in available:
        name = "+".join(f"clouded {name}" if name == CLOUDED else name for name in available)
        setting = tuple(name for name in available if name in own)
        found.append(Condition(name, setting, is_clouded=CLOUDED in setting))
    return [condition for condition in found if condition.setting]
