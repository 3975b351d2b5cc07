"""Randomness of the world, keyed by (seed, purpose, block, part): no number of processes changes a pixel."""

import enum

import numpy as np

# Apart from the purposes of `fusmae.data.randomness`: a run and its world may share a seed.
_FIRST = 1 << 32


class Draw(enum.IntEnum):
    """What is drawn; each has a stream of its own."""

    SPLITS = _FIRST
    WHEN = enum.auto()
    REGIONS = enum.auto()
    STRUCTURE = enum.auto()
    TERRAIN = enum.auto()
    ATMOSPHERE = enum.auto()
    SNOW = enum.auto()
    OPTICAL_NOISE = enum.auto()
    SPECKLE = enum.auto()


def stream(seed: int, draw: Draw, block: int = 0, part: int = 0) -> np.random.Generator:
    """The generator of one (seed, purpose, block, part): a counter-based Philox, so that keys never overlap.

    Args:
        seed: the world's.
        draw: what is drawn.
        block: number of a block of ground.
        part: number of a region in it.
    """
    # The lowest counter words are left to the stream itself.
    return np.random.Generator(np.random.Philox(key=[seed, draw], counter=[0, 0, block, part]))
