"""Tiny modules over the tiny shards, trained by the real trainer on one thread."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from fusmae.config.task import ClassKind, Task
from fusmae.data.datamodule import Draws, PairDataModule
from fusmae.data.shards import ShardReader
from fusmae.models.architecture import Architecture
from fusmae.models.encoder import Encoder
from fusmae.models.fusmae import FusMAE
from fusmae.models.heads import ClassifierHead
from fusmae.models.predictors import TilePredictor
from fusmae.models.preprocess import Preprocess, Preprocessing
from fusmae.training.checkpoint import Checkpoint
from fusmae.training.reconstruction import Reconstructor
from fusmae.training.supervised import Finetuner, start_finetuning
from fusmae.training.trainer import build_trainer, fit
from tests.conftest import NUM_PATCHES
from tests.kinds import TASKS
from tests.sections import architecture_of, finetune_section, pretrain_section, runtime_section
from tests.study.conftest import compose, tiny, tiny_config, tiny_of

__all__ = ["compose", "tiny", "tiny_config", "tiny_of"]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums on several threads may round differently from run to run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
    torch.set_num_threads(before)


@pytest.fixture
def preprocessing(inputs, statistics) -> Preprocessing:
    return Preprocessing(inputs=inputs, statistics=statistics)


@pytest.fixture
def architecture(preprocessing) -> Architecture:
    return architecture_of(preprocessing, depth=3)


@pytest.fixture
def make_reconstructor(architecture, preprocessing) -> Callable[..., Reconstructor]:
    """Makes a Reconstructor with equal weights at each call; switches and fields of the recipe may be given."""

    def make(**changes: Any) -> Reconstructor:
        torch.manual_seed(0)
        switches = {name: value for name, value in changes.items() if name in Architecture.model_fields}
        recipe = pretrain_section(**{name: value for name, value in changes.items() if name not in switches})
        model = FusMAE(architecture.model_copy(update=switches))
        return Reconstructor(model, Preprocess(preprocessing), recipe)

    return make


@pytest.fixture
def make_finetuner(architecture, preprocessing, classes) -> Callable[..., Finetuner]:
    """Makes a Finetuner with drop path and equal weights at each call."""

    def make(drop_path: float = 0.3, base_lr: float = 0.1, kind: ClassKind = "multilabel") -> Finetuner:
        torch.manual_seed(0)
        encoder = Encoder(architecture, drop_path=drop_path)
        task = Task(kind=kind, classes=classes)
        model = TilePredictor(task, encoder, "mean", ClassifierHead(16, len(classes)))
        return Finetuner(model, Preprocess(preprocessing), finetune_section(base_lr=base_lr))

    return make


@pytest.fixture
def make_kind_finetuner(kind_shards, architecture, preprocessing) -> Callable[..., Finetuner]:
    """Starts finetuning on the tiny shards of a task of `tests.kinds`, with equal weights at each call.

    Fields of the recipe, and `is_frozen`, may be given.
    """

    def make(name: str, *, is_frozen: bool = False, **changes: Any) -> Finetuner:
        torch.manual_seed(0)
        weights = {f"encoder.{key}": tensor for key, tensor in Encoder(architecture).state_dict().items()}
        start = Checkpoint(architecture, preprocessing, Task(), {}, weights)
        recipe = finetune_section(**({"drop_path": 0.0} | changes))
        return start_finetuning(start, recipe, ShardReader(kind_shards(name), "train"), 0, is_frozen=is_frozen)

    return make


@pytest.fixture
def make_kind_data(kind_shards) -> Callable[..., PairDataModule]:
    """Makes a data module over the tiny shards of a task; any field of Draws may be given."""

    def make(name: str, batch_size: int = 4, **changes: Any) -> PairDataModule:
        draws = Draws(**({"seed": 0, "modalities": ("s1", "s2"), "num_patches": NUM_PATCHES} | changes))
        return PairDataModule(kind_shards(name), batch_size=batch_size, draws=draws, with_maps=TASKS[name].is_dense)

    return make


@pytest.fixture
def train() -> Callable[..., L.Trainer]:
    """Fits a module as the stages do, with the trainer that they build; `watching` are callbacks that they give it."""

    def run(
        module: L.LightningModule,
        data: PairDataModule,
        resume_folder: Path,
        *callbacks: Callback,
        epochs: int = 3,
        every: int = 3,
        seed: int = 0,
        watching: Sequence[Callback] = (),
    ) -> L.Trainer:
        runtime = runtime_section(checkpoint_every_steps=every)
        trainer = build_trainer(runtime, epochs, seed, resume_folder, callbacks=watching)
        trainer.callbacks.extend(callbacks)  # type: ignore[attr-defined]
        fit(trainer, module, data)
        return trainer

    return run


@pytest.fixture
def weights_of() -> Callable[[torch.nn.Module], dict[str, Tensor]]:
    """A copy of a module's weights."""
    return lambda module: {name: tensor.clone() for name, tensor in module.state_dict().items()}
