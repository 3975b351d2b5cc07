"""Random numbers of the world, keyed by (seed, purpose, block, part): the number of processes changes no pixel."""

import enum

import numpy as np

# Starts beyond the purposes of `fusmae.data.randomness`, because a run and its world may share a seed.
_FIRST = 1 << 32


class Draw(enum.IntEnum):
    """Purposes of random numbers; each purpose has its own stream."""

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
    """Return the generator of one (seed, purpose, block, part): a counter-based Philox, so that keys never overlap.

    Args:
        seed: random seed of the world.
        draw: purpose of the numbers.
        block: number of a block of ground.
        part: number of a region in the block.
    """
    # The two lowest words of the counter belong to the stream, which counts with them.
    return np.random.Generator(np.random.Philox(key=[seed, draw], counter=[0, 0, block, part]))
