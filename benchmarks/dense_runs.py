"""Short trainings of maps on a synthetic world, for the benchmarks of dense heads."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fusmae.config.runtime import RuntimeConfig
from fusmae.config.training import AugmentConfig, FinetuneConfig
from fusmae.data.datamodule import Draws, PairDataModule
from fusmae.data.index import Pair, write_index
from fusmae.data.shard_writer import Maps, write_shards
from fusmae.data.shards import Origin, ShardReader
from fusmae.data.statistics import measure_statistics, read_statistics, write_statistics
from fusmae.evaluation.conditions import Condition, setting_name
from fusmae.evaluation.predictions import finetuned_answers
from fusmae.modalities import BIGEARTHNET, modality_inputs
from fusmae.models.preprocess import Preprocessing
from fusmae.sources.patches.places import PATCH_M
from fusmae.sources.synthetic.source import SyntheticSource
from fusmae.training.checkpoint import Checkpoint
from fusmae.training.optim import REFERENCE_BATCH
from fusmae.training.supervised import Finetuner, start_finetuning
from fusmae.training.trainer import build_trainer, fit

COARSE_PX = 10
"""Side of the blocks of coarse maps: CORINE, from which BigEarthNet's maps come, has nothing narrower than 100 m."""
RUNTIME = RuntimeConfig(
    num_workers=0, accelerator="auto", strategy="ddp", checkpoint_every_steps=10_000, scheduler="",
    num_dask_workers=0, mirrors=[], num_connections=1,
)  # fmt: skip
"""The machine's part of every training here: one process, without checkpoints in between."""
_BATCH = 16
_LEARNING_RATE = 3e-3
"""Rate of the batch; with 1e-3 these small models learn less in the same steps."""

Change = Callable[[Finetuner], None]
"""What turns the product's head into a rival one, before training."""


@dataclass(frozen=True)
class World:
    """Shards of a synthetic world with maps."""

    shards: Path
    index: Path
    preprocessing: Preprocessing


def make_world(folder: Path, num_pairs: int, seed: int, *, is_coarse: bool) -> World:
    """Generate the world and its shards, unless they are there; coarse maps have one class per block."""
    raw, kind = folder / "raw", "coarse" if is_coarse else "fine"
    shards, index, statistics = (folder / f"{kind}{end}" for end in ("", ".parquet", ".json"))
    inputs = modality_inputs(BIGEARTHNET, PATCH_M)
    if not statistics.exists():
        source = SyntheticSource(num_pairs, seed, kind="segmentation")
        source.fetch(folder, raw)
        pairs = source.pairs(raw)
        read_map = partial(coarse_map if is_coarse else source.read_map, *([source] if is_coarse else []), raw)
        write_shards(
            pairs,
            partial(source.read, raw),
            shards,
            inputs=inputs,
            task=source.task,
            shard_pairs=200,
            maps=Maps(source.map_classes, read_map),
            origin=Origin(source.name, source.licence, source.is_synthetic),
        )
        write_index(pairs, index)
        write_statistics(statistics, measure_statistics(shards))
    return World(shards, index, Preprocessing(inputs=tuple(inputs), statistics=read_statistics(statistics)))


def coarse_map(source: SyntheticSource, raw: Path, pair: Pair) -> NDArray[np.uint8]:
    """The most frequent class of each block, at all of its pixels."""
    fine = source.read_map(raw, pair)
    side = len(fine) // COARSE_PX
    blocks = fine.reshape(side, COARSE_PX, side, COARSE_PX).swapaxes(1, 2).reshape(side, side, -1)
    counts = (blocks[..., None] == np.arange(len(source.map_classes))).sum(axis=2)
    return np.asarray(counts.argmax(axis=2).repeat(COARSE_PX, 0).repeat(COARSE_PX, 1), np.uint8)


def train(
    world: World,
    start: Checkpoint,
    *,
    steps: int,
    seed: int,
    is_frozen: bool = False,
    modalities: Sequence[str] = ("s1", "s2"),
    modality_drop: float = 0.0,
    change: Change | None = None,
) -> Finetuner:
    """Train the product's dense head, or a rival, for some steps; in eval mode afterwards."""
    num_train = len(ShardReader(world.shards, "train", verify=False))
    epochs = -(-steps // (num_train // _BATCH))
    section = FinetuneConfig(
        epochs=epochs,
        batch_size=_BATCH,
        base_lr=_LEARNING_RATE * REFERENCE_BATCH / _BATCH,
        weight_decay=0.05,
        warmup_epochs=epochs * 0.1,
        modality_drop=modality_drop,
        augment=AugmentConfig(flip=True, turn=True, min_crop=1.0),
        layer_decay=1.0,
        drop_path=0.0,
        readout="mean",
    )
    draws = Draws(seed, tuple(modalities), 1, modality_drop, augment=section.augment.model_dump())
    data = PairDataModule(world.shards, batch_size=_BATCH, draws=draws, with_maps=True)
    module = start_finetuning(start, section, data.reader("train"), seed, is_frozen=is_frozen)
    if change is not None:
        torch.manual_seed(seed)
        change(module)
    # Convolutions of few channels take about two thirds of the time on a CPU.
    module.to(memory_format=torch.channels_last)
    with tempfile.TemporaryDirectory() as folder:
        fit(build_trainer(RUNTIME, epochs, seed, Path(folder), max_steps=steps, is_validated=False), module, data)
    return module.eval()


def counts_of(world: World, module: Finetuner, modalities: Sequence[str]) -> NDArray[Any]:
    """Counts `[N, S]` of the test maps, predicted from these modalities."""
    data = PairDataModule(world.shards, batch_size=_BATCH, draws=Draws(0, tuple(modalities), 1), with_maps=True)
    condition = Condition(setting_name(modalities), tuple(modalities))
    found = finetuned_answers(module.model, module.preprocess, data, [condition], torch.device("cpu"))
    return found[condition.name]
