"""The loaders that are compared: each one's copy of the same pairs, and its endless stream of batches."""

import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fusmae.data.cluster import open_cluster
from fusmae.data.datamodule import Draws, PairDataModule
from fusmae.data.randomness import Purpose, generator
from fusmae.data.shard_writer import write_shards
from fusmae.data.shards import Origin
from fusmae.data.statistics import measure_statistics, write_statistics
from fusmae.files import write_json
from fusmae.modalities import BIGEARTHNET, Statistics, modality_inputs
from fusmae.models.preprocess import Preprocess, Preprocessing
from fusmae.sources.patches.places import PATCH_M
from fusmae.sources.synthetic.source import SyntheticSource

INPUTS = modality_inputs(BIGEARTHNET, PATCH_M)
BATCH = 64
SEED = 0

Pixels = dict[str, Tensor]


def prepare(folder: Path, num_pairs: int) -> None:
    """Write the same pairs as GeoTIFFs, as shards and as an LMDB of safetensors."""
    import lmdb
    from safetensors.numpy import save

    # Finished shards would be reused, although the generator's code may have changed since.
    shutil.rmtree(folder / "shards", ignore_errors=True)
    source, raw = SyntheticSource(num_pairs=num_pairs, seed=SEED), folder / "raw"
    source.fetch(folder / "downloads", raw)
    pairs = source.pairs(raw)
    with open_cluster("", 0) as run:
        write_shards(
            pairs,
            partial(source.read, raw.absolute()),
            (folder / "shards").absolute(),
            inputs=INPUTS,
            task=source.task,
            shard_pairs=1000,
            origin=Origin(source.name, source.licence, is_synthetic=True),
            run=run,
        )
        write_statistics(folder / "statistics.json", measure_statistics(folder / "shards", run=run))
    train = [pair for pair in pairs if pair.split == "train"]
    shutil.rmtree(folder / "lmdb", ignore_errors=True)
    with lmdb.open(str(folder / "lmdb"), map_size=2**40) as store, store.begin(write=True) as transaction:
        for pair in train:
            bands = source.read(raw, pair)
            for modality in BIGEARTHNET:
                side = {band: bands[band] for band in BIGEARTHNET[modality].bands}
                transaction.put(f"{pair.key}/{modality}".encode(), save(side))
    write_json(folder / "lmdb" / "keys.json", [pair.key for pair in train])


class LmdbPairs(Dataset[Pixels]):
    """Pairs from an LMDB, with one safetensors value per modality of a pair."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys = json.loads((folder / "keys.json").read_text(encoding="utf-8"))
        self.store: Any = None

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Pixels:
        import lmdb
        from safetensors.numpy import load

        if self.store is None:  # an LMDB environment must not be used across a fork
            self.store = lmdb.open(str(self.folder), readonly=True, lock=False, readahead=False)
        with self.store.begin() as transaction:
            bands: dict[str, Any] = {}
            for modality in BIGEARTHNET:
                bands |= load(transaction.get(f"{self.keys[index]}/{modality}".encode()))
        return {item.name: torch.from_numpy(np.stack([bands[band] for band in item.bands])) for item in INPUTS}


def order_of(num_pairs: int) -> list[int]:
    """The random order of pairs, the same for all contenders that take an order."""
    return [int(index) for index in generator(SEED, Purpose.ORDER, 0).permutation(num_pairs)]


def batches_of(name: str, folder: Path, workers: int, share: float) -> Iterator[Any]:
    """A contender's batches in an endless stream, pixels in physical units; its workers persist between epochs."""
    if name == "ours":
        data = PairDataModule(
            folder / "shards", batch_size=BATCH, draws=Draws(SEED, ("s1", "s2"), 225), num_workers=workers
        )
        loader: Any = data.train_dataloader()
        loader.sampler.num_pairs = round(loader.sampler.num_pairs * share)
        while True:
            yield from (batch.pixels for batch in loader)
    if name.startswith("lmdb"):
        pairs: Any = LmdbPairs(folder / "lmdb")
    else:
        from torchgeo.datasets import BigEarthNetV2

        class WithoutMap(BigEarthNetV2):  # type: ignore[misc]
            def _load_map(self, index: int) -> Tensor:
                return torch.zeros(1)

        pairs = WithoutMap(str(folder / "raw"), split="train", bands="all")
    sampler: Any = order_of(len(pairs))
    loader = DataLoader(
        pairs, BATCH, sampler=sampler, num_workers=workers, drop_last=True, persistent_workers=workers > 0
    )
    while True:
        yield from loader


def finisher(name: str, product: str, known: Statistics) -> Callable[[Any], Any]:
    """The function that turns a contender's batch into a normalised float32 one."""
    if name == "torchgeo":
        order = {
            "image_s1": ("s1", ("VH", "VV")),
            "image_s2": ("s2", sorted(BIGEARTHNET["s2"].bands, key=_product_order)),
        }
        moments = {
            key: tuple(
                torch.tensor([getattr(known[modality][band], moment) for band in bands])[:, None, None]
                for moment in ("mean", "std")
            )
            for key, (modality, bands) in order.items()
        }
        return lambda batch: {key: batch[key].sub_(mean).div_(std) for key, (mean, std) in moments.items()}
    native = product == "native"
    return partial(standardise, known=known) if native else Preprocess(Preprocessing(inputs=INPUTS, statistics=known))


def _product_order(band: str) -> float:
    return 8.5 if band == "B8A" else float(band[1:])


def standardise(pixels: Pixels, known: Statistics) -> Pixels:
    """Each array at its native resolution to zero mean and unit deviation, float32."""
    found = {}
    for item in INPUTS:
        bands = [known[item.modality][band] for band in item.bands]
        mean = torch.tensor([band.mean for band in bands])[:, None, None]
        std = torch.tensor([band.std for band in bands])[:, None, None]
        found[item.name] = pixels[item.name].float().sub_(mean).div_(std)
    return found
