"""The inputs on which a model is measured: every modality, one of them, or simulated clouds over the optical one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fusmae.data.datamodule import Batch, PairDataModule
from fusmae.data.index import Split
from fusmae.data.randomness import Purpose, generators
from fusmae.models.architecture import modality_settings

CLOUDED = "s2"
"""The modality that clouds hide."""

_CLOUD_DN = 6000.0
"""Reflectance 0.6 in every band: a thick water cloud is white from blue to near infrared, and reflects 0.5 to 0.8. In
short-wave infrared real clouds are darker. The offset of +1000 of newer Sentinel-2 products is not included."""

_CELLS = 5
"""Number of random values along a tile's side; clouds are about as large as a few of the distances between them."""

_EDGE = 0.4
"""Width of a cloud's edge, from clear to opaque, in standard deviations of the random field."""


@dataclass(frozen=True)
class Clouds:
    """Simulated clouds over optical tiles."""

    seed: int  # random seed of the clouds' shapes; the same for every variant and seed of a study
    share: float  # share of a tile that is hidden, 0..1; the clouds' edges count as half covered


@dataclass(frozen=True)
class Condition:
    """One form of input of a split's pairs."""

    name: str  # name of the condition: `s1+s2`, `s1`, `s2`, `s1+clouded s2`
    # Names of the modalities that the model gets, which are those of the condition that it has.
    setting: tuple[str, ...]
    clouds: Clouds | None = None  # clouds over s2; None for a clear sky

    @property
    def clear(self) -> "Condition":
        """The same modalities without clouds, named by them: what heads are trained on."""
        return Condition(setting_name(self.setting), self.setting)


def setting_name(setting: Sequence[str]) -> str:
    """Name of a set of modalities in tables, like `s1+s2`."""
    return "+".join(setting)


def conditions_of(available: Sequence[str], own: Sequence[str], clouds: Clouds | None = None) -> list[Condition]:
    """Every condition that has one of the model's `own` modalities; the one with all modalities comes first.

    `available` are the data's, in order. With `clouds`, data with s2 have a last condition under these.
    """
    given = modality_settings(tuple(available))
    found = [Condition(setting_name(names), tuple(name for name in names if name in own)) for names in given]
    if clouds is not None and CLOUDED in available:
        name = "+".join(f"clouded {name}" if name == CLOUDED else name for name in available)
        setting = tuple(name for name in available if name in own)
        found.append(Condition(name, setting, clouds if CLOUDED in setting else None))
    return [condition for condition in found if condition.setting]


def seen(batch: Batch, condition: Condition) -> dict[str, Tensor]:
    """The part of a batch that a model gets: pixels by input name, on the CPU."""
    pixels = batch.only(condition.setting)
    return pixels if condition.clouds is None else clouded(pixels, batch.indices, condition.clouds)


@torch.no_grad()
def over_split(
    function: Callable[[Batch, tuple[str, ...]], Tensor],
    data: PairDataModule,
    split: Split,
    conditions: Sequence[Condition],
    device: torch.device,
) -> dict[str, NDArray[Any]]:
    """Arrays `[N, …]` in a split's order, by name of the condition: a function called once for each distinct input.

    The function is given a batch, whose pixels are those of the condition, and the condition's setting; it returns
    `[B, …]`. Pixels and maps are brought to the device.
    """
    distinct = {(condition.setting, condition.clouds): condition for condition in conditions}
    parts: dict[Any, list[Tensor]] = {key: [] for key in distinct}
    for batch in data.batches(split, range(len(data.reader(split)))):
        maps = None if batch.maps is None else batch.maps.to(device)
        for key, condition in distinct.items():
            pixels = {name: array.to(device) for name, array in seen(batch, condition).items()}
            parts[key].append(function(batch._replace(pixels=pixels, maps=maps), condition.setting).cpu())
    whole = {key: torch.cat(found).numpy() for key, found in parts.items()}
    return {condition.name: whole[condition.setting, condition.clouds] for condition in conditions}


def clouded(pixels: dict[str, Tensor], indices: Tensor, clouds: Clouds) -> dict[str, Tensor]:
    """Put opaque clouds with soft edges over a part of each optical tile.

    A pair's clouds depend on the seed and the pair alone, not on the rest of the batch, and are the same at every
    resolution.

    Args:
        pixels: arrays `[B, C, h, w]` by input name, in physical units; only `s2_…` (DN) get clouds.
        indices: positions `[B]` of the pairs in their split.
        clouds: seed and share of the clouds.
    """
    optical = {name: array for name, array in pixels.items() if name.startswith(f"{CLOUDED}_")}
    if not optical:
        return dict(pixels)
    side = max(array.shape[-1] for array in optical.values())
    opacity = _opacity(indices, clouds, side)
    covered = {}
    for name, array in optical.items():
        # Averaged by area, as a detector with coarser pixels does.
        part = F.interpolate(opacity, size=array.shape[-2:], mode="area").to(array.device)
        covered[name] = torch.lerp(array.float(), torch.full_like(part, _CLOUD_DN), part).to(array.dtype)
    return pixels | covered


def _opacity(indices: Tensor, clouds: Clouds, side: int) -> Tensor:
    """Opacity `[B, 1, side, side]`, 0 (clear) to 1, on the CPU, so that its bits don't depend on the model's device."""
    keys = ((0, index) for index in indices.tolist())
    grids = [random.standard_normal((1, _CELLS, _CELLS)) for random in generators(clouds.seed, Purpose.CLOUD, keys)]
    coarse = torch.from_numpy(np.stack(grids)).float()
    field = F.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=True).flatten(1)
    clear = min(side * side, max(1, round((1 - clouds.share) * side * side)))
    height = field - field.kthvalue(clear, dim=1, keepdim=True).values
    return (0.5 + height / (_EDGE * field.std(dim=1, keepdim=True))).clamp(0, 1).reshape(-1, 1, side, side)
