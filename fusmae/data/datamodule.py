"""Batches from shards: draws keyed by pair and epoch, full shuffling, restart at any batch."""

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
from torch.utils.data import DataLoader, Dataset

from fusmae.data.augment import draw_geometry
from fusmae.data.index import Split
from fusmae.data.randomness import Purpose, generator, generators
from fusmae.data.sampler import Key, KeyedSampler, evaluation_share, training_share
from fusmae.data.shards import ShardReader
from fusmae.runs.distributed import ranks


class Batch(NamedTuple):
    """Pairs with the random draws that belong to them."""

    pixels: dict[str, Tensor]  # arrays `[B, C, h, w]` by input name, in physical units at native resolution
    labels: Tensor  # float32 `[B, K]`, 1 where the pair has the class
    indices: Tensor  # positions `[B]` of the pairs in the split
    geometry: Tensor  # affine maps `[B, 2, 3]` of the augmentation
    noise: dict[str, Tensor]  # uniform noise `[B, L]` by modality, for masking
    dropped: str  # name of the modality that is left out for this batch; "" for none
    maps: Tensor | None = None  # uint8 `[B, h, w]`, positions in `map_classes` or `NO_CLASS`; None if not asked for

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


@dataclass(frozen=True)
class Draws:
    """Settings of the random draws."""

    seed: int  # seed of the run
    modalities: tuple[str, ...]  # names of the modalities, in order
    num_patches: int  # number L of patches of one modality
    modality_drop: float = 0.0  # probability that one modality is dropped from a batch
    augment: Mapping[str, Any] | None = None  # keyword arguments of `draw_geometry`; None for no augmentation


@dataclass(frozen=True, eq=False)
class PairDataset(Dataset[Batch]):
    """A split's pairs, or some of them, with keyed draws; `__getitems__` returns a whole batch at once."""

    reader: ShardReader  # reader of the split
    draws: Draws  # settings of the random draws
    rows: Sequence[int] | None  # positions in the split, which `Key.pair` counts through; None for the whole split
    with_maps: bool  # whether batches contain land-cover maps

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


def _as_is(batch: Any) -> Any:
    return batch


@dataclass(eq=False, repr=False)
class PairDataModule:
    """The pairs of a folder of shards: loaders for training and evaluation, and plain batches."""

    shards: Path  # folder with `manifest.json`
    _: KW_ONLY
    batch_size: int  # number of pairs in a batch of all ranks together
    draws: Draws  # random draws in training; validation has no augmentation and drops no modality
    num_workers: int = 0  # number of threads that make batches in advance; it changes no result
    train_rows: Sequence[int] | None = None  # positions in the training split that are trained on; None for all
    with_maps: bool = False  # whether batches contain land-cover maps
    _readers: dict[Split, ShardReader] = field(default_factory=dict, init=False)

    def reader(self, split: Split) -> ShardReader:
        """The reader of a split's shards; the first process alone verifies the checksums, once.

        Raises:
            ShardError: see `ShardReader`.
        """
        if split not in self._readers:
            self._readers[split] = ShardReader(self.shards, split, verify=ranks().is_first)
        return self._readers[split]

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled and augmented batches of the training split."""
        pairs = PairDataset(self.reader("train"), self.draws, self.train_rows, self.with_maps)
        return self._loader(pairs, is_training=True)

    def val_dataloader(self) -> ResumableLoader:
        """The validation split in its own order."""
        return self.loader("validation")

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
        draws = replace(self.draws, modality_drop=0.0, augment=None)
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
            collate_fn=_as_is,
            pin_memory=torch.cuda.is_available(),
        )
        loader.num_threads = self.num_workers
        return loader


def _rank() -> tuple[int, int]:
    """This process's rank, and the number of ranks."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1
