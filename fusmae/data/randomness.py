"""Randomness keyed by (seed, epoch, index): resuming or another worker count changes no draw."""

import enum
from collections.abc import Iterable, Iterator
from typing import Any, cast

import numpy as np


class Purpose(enum.IntEnum):
    """What a draw is for; each purpose has a stream of its own."""

    ORDER = 0
    AUGMENT = 1
    MASK = 2
    MODALITY_DROP = 3
    DROPOUT = 4
    LABEL_SUBSET = 5
    CLOUD = 6
    RESAMPLE = 7


def generator(seed: int, purpose: Purpose, epoch: int, index: int = 0) -> np.random.Generator:
    """The generator of one (seed, purpose, epoch, index): a counter-based Philox, so that keys never overlap.

    Args:
        seed: the run's seed.
        purpose: what is drawn.
        epoch: 0 for the first.
        index: the pair's index in its split; of a batch, its first pair's.
    """
    # The lowest counter word is left to the stream itself.
    return np.random.Generator(np.random.Philox(key=[seed, purpose], counter=[0, 0, epoch, index]))


def generators(seed: int, purpose: Purpose, keys: Iterable[tuple[int, int]]) -> Iterator[np.random.Generator]:
    """What `generator` gives for each (epoch, index), at a fraction of its cost: one generator, set anew.

    Each must be drawn from before the next is taken.
    """
    random = generator(seed, purpose, 0)
    state = cast(dict[str, Any], random.bit_generator.state)
    for epoch, index in keys:
        state["state"]["counter"][:] = 0, 0, epoch, index
        random.bit_generator.state = state
        yield random
