"""The inputs of an encoder in a test: every modality, one of them, or clouds over the optical one."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from fusmae.data.datamodule import Batch
from fusmae.evaluation.clouds import clouded

CLOUDED = "s2"
"""The modality that clouds hide."""


@dataclass(frozen=True)
class Condition:
    """One form of input of test pairs.

    Attributes:
        name: name of the condition: `s1+s2`, `s1`, `s2`, `s1+clouded s2`.
        setting: names of the modalities that the encoder gets, which are those of the condition that it has.
        is_clouded: whether s2 is under cloud.
    """

    name: str
    setting: tuple[str, ...]
    is_clouded: bool


@dataclass(frozen=True)
class CloudCover:
    """The clouds of degraded input.

    Attributes:
        seed: random seed of the clouds' shapes; the same for every variant and seed of a study.
        share: share of a tile that is hidden, 0..1.
    """

    seed: int
    share: float


def seen(batch: Batch, condition: Condition, weather: CloudCover) -> dict[str, Tensor]:
    """The part of a batch that an encoder gets: pixels by input name, on the CPU."""
    pixels = batch.only(condition.setting)
    return clouded(pixels, batch.indices, weather.seed, weather.share) if condition.is_clouded else pixels


def conditions_of(available: Sequence[str], own: Sequence[str]) -> list[Condition]:
    """Every condition that has a modality of the encoder; the one with all modalities comes first.

    Args:
        available: names of the data's modalities, in order.
        own: names of the encoder's modalities.
    """
    given = [tuple(available), *((name,) for name in available if len(available) > 1)]
    found = [Condition("+".join(names), tuple(name for name in names if name in own), False) for names in given]
    if CLOUDED in available:
        name = "+".join(f"clouded {name}" if name == CLOUDED else name for name in available)
        setting = tuple(name for name in available if name in own)
        found.append(Condition(name, setting, is_clouded=CLOUDED in setting))
    return [condition for condition in found if condition.setting]
