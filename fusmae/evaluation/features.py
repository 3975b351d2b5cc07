"""Features of a frozen encoder over whole splits, under each condition."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fusmae.data.datamodule import PairDataModule
from fusmae.data.index import Split
from fusmae.evaluation.conditions import CloudCover, Condition, seen
from fusmae.study.measure.frozen import FrozenEncoder

Features = NDArray[np.float32]


@dataclass(frozen=True)
class SplitFeatures:
    """Features `[N, D]` of the three splits.

    Attributes:
        train: features by setting, from which heads learn; never clouded, because heads are trained on clear tiles.
        validation: features by setting, by which heads are chosen; never clouded either.
        test: features by condition name.
    """

    train: dict[tuple[str, ...], Features]
    validation: dict[tuple[str, ...], Features]
    test: dict[str, Features]


def collect_features(
    encoder: FrozenEncoder,
    data: PairDataModule,
    conditions: Sequence[Condition],
    weather: CloudCover,
    device: torch.device,
) -> SplitFeatures:
    """Run the encoder over every split, once for each distinct input."""
    encoder.to(device)
    settings = list(dict.fromkeys(condition.setting for condition in conditions))
    clean = [Condition("+".join(setting), setting, is_clouded=False) for setting in settings]
    found = {split: _run(encoder, data, split, clean, weather, device) for split in ("train", "validation")}
    test = _run(encoder, data, "test", conditions, weather, device)
    return SplitFeatures(
        train={condition.setting: found["train"][condition.name] for condition in clean},
        validation={condition.setting: found["validation"][condition.name] for condition in clean},
        test=test,
    )


def _run(
    encoder: FrozenEncoder,
    data: PairDataModule,
    split: Split,
    conditions: Sequence[Condition],
    weather: CloudCover,
    device: torch.device,
) -> dict[str, Features]:
    distinct = {(condition.setting, condition.is_clouded): condition for condition in conditions}
    parts: dict[tuple[tuple[str, ...], bool], list[torch.Tensor]] = {key: [] for key in distinct}
    for batch in data.batches(split, range(len(data.reader(split)))):
        for key, condition in distinct.items():
            pixels = {name: array.to(device) for name, array in seen(batch, condition, weather).items()}
            parts[key].append(encoder.features(pixels, condition.setting).cpu())
    whole = {key: torch.cat(found).numpy() for key, found in parts.items()}
    return {condition.name: whole[condition.setting, condition.is_clouded] for condition in conditions}
