"""Batches from shards: draws keyed by pair and epoch, full shuffling, shared by several processes, restart anywhere."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from fusmae.config.task import Task
from fusmae.data.augment import draw_geometry
from fusmae.data.index import Split
from fusmae.data.randomness import Purpose, generator, generators
from fusmae.data.shards import ShardReader
from fusmae.errors import ShardError, TrainingError
from fusmae.modalities import by_modality
from fusmae.runs.distributed import ranks


class Batch(NamedTuple):
    """Pairs with the random draws that belong to them."""

    pixels: dict[str, Tensor]  # arrays `[B, C, h, w]` by input name, in physical units at native resolution
    labels: Tensor  # float32 `[B, K]`, 1 where the pair has the class; `[B, 1]`, a value
    indices: Tensor  # positions `[B]` of the pairs in the split
    geometry: Tensor  # affine maps `[B, 2, 3]` of the augmentation
    noise: dict[str, Tensor]  # uniform noise `[B, L]` by modality, for masking
    dropped: str  # name of the modality that is left out for this batch; "" for none
    lacking: tuple[str, ...] = ()  # names of the inputs that are hidden from the model in this batch
    # Maps `[B, h, w]` at 10 m: uint8 positions in `map_classes` or `NO_CLASS`, or float32 values or NaN; None if not
    # asked for.
    maps: Tensor | None = None

    @property
    def present(self) -> tuple[str, ...]:
        """Modalities that are not dropped from this batch."""
        return tuple(key for key in self.noise if key != self.dropped)

    def pinned(self) -> "Batch":
        """The same batch in page-locked memory, which is copied to a GPU without blocking the CPU."""

        def pin(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: pin(item) for name, item in value.items()}
            return value.pin_memory() if isinstance(value, Tensor) else value

        return Batch(*map(pin, self))

    def only(self, modalities: Sequence[str]) -> dict[str, Tensor]:
        """Pixels of the given modalities, by input name; the name `s1+s2` means both."""
        wanted = {part for name in modalities for part in name.split("+")}
        return {name: array for name, array in self.pixels.items() if name.rsplit("_", 1)[0] in wanted}


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


@dataclass(frozen=True)
class Draws:
    """Settings of the random draws."""

    seed: int  # seed of the run
    modalities: tuple[str, ...]  # names of the modalities, in order
    num_patches: int  # number L of patches of one modality
    modality_drop: float = 0.0  # probability that one modality is dropped from a batch
    group_drop: float = 0.0  # probability of each resolution group to be hidden in a batch
    augment: Mapping[str, Any] | None = None  # keyword arguments of `draw_geometry`; None for no augmentation


@dataclass(frozen=True, eq=False)
class PairDataset(Dataset[Batch]):
    """A split's pairs, or some of them, with keyed draws; `__getitems__` returns a whole batch at once."""

    reader: ShardReader  # reader of the split
    draws: Draws  # settings of the random draws
    rows: Sequence[int] | None  # positions in the split, which `Key.pair` counts through; None for the whole split
    with_maps: bool  # whether batches contain maps

    def __len__(self) -> int:
        return len(self.reader if self.rows is None else self.rows)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        rows = [key.pair if self.rows is None else int(self.rows[key.pair]) for key in keys]
        return Batch(
            pixels={name: torch.from_numpy(array) for name, array in self.reader.read(rows).items()},
            labels=torch.from_numpy(self.reader.labels[rows]).float(),
            indices=torch.tensor(rows),
            geometry=torch.from_numpy(self._geometry(keys)),
            noise=dict(zip(self.draws.modalities, torch.from_numpy(self._noise(keys)).unbind(1), strict=True)),
            dropped=self._dropped(keys[0]),
            lacking=self._lacking(keys[0]),
            maps=torch.from_numpy(self.reader.read_maps(rows)) if self.with_maps else None,
        )

    def _noise(self, keys: Sequence[Key]) -> NDArray[np.float32]:
        noise = np.empty((len(keys), len(self.draws.modalities), self.draws.num_patches), np.float32)
        for row, random in zip(noise, self._generators(Purpose.MASK, keys), strict=True):
            random.random(dtype=np.float32, out=row)
        return noise

    def _geometry(self, keys: Sequence[Key]) -> NDArray[np.float32]:
        if self.draws.augment is None:
            return np.tile(np.eye(2, 3, dtype=np.float32), (len(keys), 1, 1))
        return draw_geometry(self._generators(Purpose.AUGMENT, keys), **self.draws.augment)

    def _generators(self, purpose: Purpose, keys: Sequence[Key]) -> Iterator[np.random.Generator]:
        return generators(self.draws.seed, purpose, ((key.epoch, key.pair) for key in keys))

    def _dropped(self, key: Key) -> str:
        random = generator(self.draws.seed, Purpose.MODALITY_DROP, key.epoch, key.first)
        if len(self.draws.modalities) < 2 or random.random() >= self.draws.modality_drop:
            return ""
        return self.draws.modalities[random.integers(len(self.draws.modalities))]

    def _lacking(self, key: Key) -> tuple[str, ...]:
        """Names of the inputs to hide: of each modality some, but never all."""
        lacking: list[str] = []
        random = generator(self.draws.seed, Purpose.GROUP_DROP, key.epoch, key.first)
        for items in by_modality(self.reader.inputs).values():
            is_hidden = random.random(len(items)) < self.draws.group_drop
            if is_hidden.all():
                is_hidden[random.integers(len(items))] = False
            lacking += [item.name for item, hidden in zip(items, is_hidden, strict=True) if hidden]
        return tuple(lacking)


class ResumableLoader(DataLoader[Batch]):
    """A loader whose position in the epoch is saved in Lightning's resume checkpoint; its workers are threads.

    System calls and array operations make a batch, and they release the interpreter's lock. So threads run in
    parallel, and save the time that processes would spend on passing batches on.
    """

    dataset: PairDataset
    sampler: KeyedSampler
    # Not an argument of __init__: Lightning copies a loader by calling it with DataLoader's arguments only.
    num_threads = 0
    _start = 0
    _given = 0

    def __iter__(self) -> Any:
        self._given, self._start = self._start, 0
        self.sampler.skip = self._given
        for batch in self._ahead() if self.num_threads else super().__iter__():
            self._given += self._pairs_a_step
            yield batch

    def _ahead(self) -> Iterator[Batch]:
        """Batches in order; threads make up to twice `num_threads` of them in advance."""
        keys = iter(cast(Iterable[list[Key]], self.batch_sampler))
        with ThreadPoolExecutor(self.num_threads) as pool:

            def made(count: int) -> list[Future[Batch]]:
                return [pool.submit(self.dataset.__getitems__, batch) for batch in islice(keys, count)]

            waiting = deque(made(2 * self.num_threads))
            try:
                while waiting:
                    batch = waiting.popleft().result()
                    waiting.extend(made(1))
                    yield batch.pinned() if self.pin_memory else batch
            finally:
                pool.shutdown(cancel_futures=True)

    @property
    def _pairs_a_step(self) -> int:
        return (self.batch_size or 1) * self.sampler.num_ranks

    def state_dict(self) -> dict[str, int]:
        """Number of this epoch's pairs that all ranks together have yielded so far."""
        return {"given": self._given % (len(self) * self._pairs_a_step)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Start the next iteration after the pairs that were already yielded."""
        self._start = state["given"]


@dataclass(eq=False, repr=False)
class PairDataModule:
    """The pairs of a folder of shards: loaders for training and evaluation, and plain batches."""

    shards: Path  # folder with `manifest.json`
    _: KW_ONLY
    batch_size: int  # number of pairs in a batch of all ranks together
    draws: Draws  # random draws in training; validation has no augmentation and drops nothing
    num_workers: int = 0  # number of threads that make batches in advance; it changes no result
    train_rows: Sequence[int] | None = None  # positions in the training split that are trained on; None for all
    with_maps: bool = False  # whether batches contain maps
    _readers: dict[Split, ShardReader] = field(default_factory=dict, init=False)

    def reader(self, split: Split) -> ShardReader:
        """The reader of a split's shards; the first process alone verifies the checksums, once.

        Raises:
            ShardError: see `ShardReader`.
        """
        if split not in self._readers:
            self._readers[split] = ShardReader(self.shards, split, verify=ranks().is_first)
        return self._readers[split]

    def task(self) -> Task:
        """What the labels of the shards are.

        Raises:
            ShardError: there are none.
        """
        if not (task := self.reader("train").task).num_outputs:
            raise ShardError(
                f"The pairs in {self.shards} have no labels, so that only pretraining can learn from them.",
                expected="classes in data.source.classes, or data.source.value; and labels of pairs",
                hint="`dvc repro pretrain` needs no labels; `fusmae tile --labels` cuts pairs with them",
            )
        return task

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled and augmented batches of the training split."""
        pairs = PairDataset(self.reader("train"), self.draws, self.train_rows, self.with_maps)
        return self._loader(pairs, is_training=True)

    def loader(self, split: Split) -> ResumableLoader:
        """A split in its own order, without augmentation and without dropped modalities."""
        return self._loader(self._plain(split), is_training=False)

    def first(self, split: Split, count: int) -> Batch:
        """The first pairs of a split as one batch, not augmented."""
        return self._plain(split).__getitems__([Key(0, index, 0) for index in range(count)])

    def batches(self, split: Split, rows: Sequence[int], batch_size: int | None = None) -> Iterator[Batch]:
        """The pairs at positions `rows` of a split, in that order, not augmented; `batch_size` pairs each."""
        pairs, size = self._plain(split, rows), batch_size or self.batch_size
        for start in range(0, len(rows), size):
            yield pairs.__getitems__([Key(0, at, 0) for at in range(start, min(start + size, len(rows)))])

    def _plain(self, split: Split, rows: Sequence[int] | None = None) -> PairDataset:
        draws = replace(self.draws, modality_drop=0.0, group_drop=0.0, augment=None)
        return PairDataset(self.reader(split), draws, rows, self.with_maps)

    def _loader(self, pairs: PairDataset, *, is_training: bool) -> ResumableLoader:
        rank, num_ranks = _rank()
        seed = self.draws.seed if is_training else None
        sampler = KeyedSampler(len(pairs), seed, rank, num_ranks, self.batch_size)
        share = training_share if is_training else evaluation_share
        batch_size = share(len(pairs), self.batch_size, num_ranks)
        loader = ResumableLoader(
            pairs,
            batch_size,
            sampler=sampler,
            # As in the MAE recipe, a short last batch is dropped, unless it is the split's only batch.
            drop_last=is_training and len(sampler) >= batch_size,
            collate_fn=lambda batch: batch,  # it is a whole batch already
            pin_memory=torch.cuda.is_available(),
        )
        loader.num_threads = self.num_workers
        return loader


def _rank() -> tuple[int, int]:
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


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
