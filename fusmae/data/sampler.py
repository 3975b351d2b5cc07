"""The order of pairs in an epoch, and how several processes share them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from fusmae.data.randomness import Purpose, generator
from fusmae.errors import TrainingError


class Key(NamedTuple):
    """All that a pair's draws depend on besides the seed."""

    epoch: int  # number of the epoch, from 0
    pair: int  # position of the pair in the split
    first: int  # position of the first pair in the batch of all ranks together; draws for a whole batch depend on it


@dataclass(eq=False)
class KeyedSampler(Sampler[Key]):
    """Keys of an epoch, in an order that depends on (seed, epoch) alone; each rank gets its own share of them.

    Batch k of all ranks together has the same pairs as batch k of a single process with the same total batch size. In
    training each rank gets equally many pairs: up to `num_ranks - 1` are left out, different ones in each epoch.
    """

    num_pairs: int  # number of pairs in the split
    seed: int | None  # seed of the run; None keeps the split's order and epoch 0
    rank: int = 0  # rank of this process
    num_ranks: int = 1  # number of processes that share the split
    batch_size: int = 1  # number of pairs in a batch of all ranks together
    epoch: int = 0  # number of the epoch
    skip: int = 0  # number of the epoch's pairs that all ranks together were already given

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch's number; Lightning calls this before each epoch."""
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
        # Pairs that were already yielded are skipped before the ranks share the rest, so that a run can be resumed
        # with another number of ranks.
        places = range(self.skip + self.rank, len(order), self.num_ranks)
        return (Key(epoch, int(order[at]), int(order[at - at % self.batch_size])) for at in places)


def training_share(num_pairs: int, batch_size: int, num_ranks: int) -> int:
    """Number of pairs that each rank takes of a training batch.

    All ranks take equally many, so that the mean over ranks equals the mean over pairs.

    Raises:
        TrainingError: the batch can't be shared equally, or several ranks have less than one batch in all.
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
    """Number of pairs in each rank's batches of an evaluation, chosen so that all ranks have equally many batches.

    Otherwise a rank with one pair fewer could end one batch early, while the others wait for it. No pair is repeated.

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
