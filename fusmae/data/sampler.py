"""Which pairs come when, and on which of several processes."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from fusmae.data.randomness import Purpose, generator
from fusmae.errors import TrainingError


class Key(NamedTuple):
    """All that a pair's draws depend on besides the seed.

    Attributes:
        epoch: 0 for the first.
        pair: its position in the split.
        first: that of the first pair in the batch of all ranks together, on which the batch's own draw depends.
    """

    epoch: int
    pair: int
    first: int


class KeyedSampler(Sampler[Key]):
    """Keys of an epoch, in an order that (seed, epoch) alone decides; each rank gets its own.

    Batch k of all ranks together holds the pairs that batch k of one process with as many times the batch would hold.

    Args:
        num_pairs: pairs in the split.
        seed: the run's seed; None keeps the split's order and epoch 0.
        rank: of this process.
        num_ranks: processes that share the split. In training each gets equally many pairs: up to `num_ranks - 1` of
            them, others in each epoch, are left out.
        batch_size: pairs in a batch of all ranks together.
    """

    def __init__(
        self, num_pairs: int, seed: int | None, rank: int = 0, num_ranks: int = 1, batch_size: int = 1
    ) -> None:
        self.num_pairs = num_pairs
        self.seed = seed
        self.rank = rank
        self.num_ranks = num_ranks
        self.batch_size = batch_size
        self.epoch = 0
        self.skip = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        if self.seed is None:
            return len(range(self.rank, self.num_pairs, self.num_ranks))
        return self.num_pairs // self.num_ranks

    def __iter__(self) -> Iterator[Key]:
        if self.seed is None:
            epoch, order = 0, np.arange(self.num_pairs)
        else:
            epoch, order = self.epoch, generator(self.seed, Purpose.ORDER, self.epoch).permutation(self.num_pairs)
            order = order[: len(self) * self.num_ranks]
        # The pairs that were given are skipped before the rest is dealt out: so another number of ranks may go on.
        places = range(self.skip + self.rank, len(order), self.num_ranks)
        return (Key(epoch, int(order[at]), int(order[at - at % self.batch_size])) for at in places)


def training_share(num_pairs: int, batch_size: int, num_ranks: int) -> int:
    """Pairs that each rank takes of a training batch: equally many, so that the mean over ranks is that over pairs.

    Raises:
        TrainingError: the batch can't be shared equally, or there is less than one.
    """
    if batch_size % num_ranks:
        raise TrainingError(
            f"A batch of {batch_size} pairs can't be shared equally among {num_ranks} processes.",
            got=f"batch_size {batch_size}",
            expected=f"a multiple of {num_ranks}",
            hint="set batch_size in params.yaml, or start another number of processes",
        )
    if num_ranks > 1 and num_pairs < batch_size:
        raise TrainingError(
            f"{num_ranks} processes are to share less than one batch.",
            got=f"{num_pairs} training pairs",
            expected=f"at least batch_size, {batch_size}",
            hint="start one process, or set a lower batch_size in params.yaml",
        )
    return batch_size // num_ranks


def evaluation_share(num_pairs: int, batch_size: int, num_ranks: int) -> int:
    """Pairs in each rank's batches of an evaluation: so many that all ranks have equally many batches.

    Ranks whose pairs are one fewer would else end a batch early, while the others wait for them. No pair is repeated.

    Raises:
        TrainingError: there are fewer pairs than ranks.
    """
    share = max(1, batch_size // num_ranks)
    if num_ranks > 1 and num_pairs < num_ranks:
        raise TrainingError(
            f"{num_ranks} processes are to share {num_pairs} pairs for validation.",
            expected="at least one pair a process",
            hint="start fewer processes",
        )
    while num_pairs % num_ranks and num_pairs // num_ranks % share == 0:
        share += 1
    return share
