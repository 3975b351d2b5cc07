"""Randomness keyed by (seed, epoch, index), so that resuming or another number of workers changes no draw."""

import enum
from collections.abc import Iterable, Iterator
from typing import Any, cast

import numpy as np


class Purpose(enum.IntEnum):
    """Purpose of a random draw; each purpose has its own random stream."""

    ORDER = 0
    AUGMENT = 1
    MASK = 2
    MODALITY_DROP = 3
    DROPOUT = 4
    LABEL_SUBSET = 5
    CLOUD = 6
    RESAMPLE = 7
    BLOCKS = 8
    GROUP_DROP = 9


def generator(seed: int, purpose: enum.IntEnum, epoch: int, index: int = 0) -> np.random.Generator:
    """The generator of one (seed, purpose, epoch, index): a counter-based Philox, so that keys never overlap.

    Epochs are numbered from 0; `index` is that of the pair in its split, or for a batch that of its first pair.
    """
    # The generator itself counts in the low words of the counter.
    return np.random.Generator(np.random.Philox(key=[seed, purpose], counter=[0, 0, epoch, index]))


def generators(seed: int, purpose: Purpose, keys: Iterable[tuple[int, int]]) -> Iterator[np.random.Generator]:
    """The generators that `generator` returns for each (epoch, index), at a fraction of the cost.

    It is one generator whose state is set for each key: draw from it before taking the next one.
    """
    random = generator(seed, purpose, 0)
    state = cast(dict[str, Any], random.bit_generator.state)
    for epoch, index in keys:
        state["state"]["counter"][:] = 0, 0, epoch, index
        random.bit_generator.state = state
        yield random
