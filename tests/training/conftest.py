"""Tiny modules over the tiny shards, trained by the real trainer on one thread."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from fusmae.data.datamodule import PairDataModule
from fusmae.models.heads import Classifier, ClassifierHead
from fusmae.training.build import (
    build_encoder,
    build_fusmae,
    build_preprocess,
    describe_architecture,
    describe_preprocessing,
)
from fusmae.training.reconstruction import PretrainRecipe, Reconstructor
from fusmae.training.supervised import Finetuner, FinetuneRecipe
from fusmae.training.trainer import Machine, build_trainer, fit

SWITCHES: dict[str, Any] = {
    "patch_px": 8,
    "dim": 16,
    "depth": 3,
    "num_heads": 2,
    "decoder_dim": 16,
    "decoder_depth": 1,
    "decoder_num_heads": 2,
    "early_fusion": True,
    "feature_fusion": True,
    "masking": "independent",
    "mask_ratio": {"s1": 0.75, "s2": 0.75},
    "target_norm": "patch",
    "decode_fraction": 1.0,
}


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
def architecture(inputs) -> dict[str, Any]:
    return describe_architecture(SWITCHES, inputs)


@pytest.fixture
def preprocessing(inputs, statistics) -> dict[str, Any]:
    return describe_preprocessing(inputs, statistics)


@pytest.fixture
def make_reconstructor(architecture, preprocessing) -> Callable[..., Reconstructor]:
    """Makes a Reconstructor with equal weights at each call; switches and fields of the recipe may be given."""

    def make(
        base_lr: float = 0.1,
        warmup_epochs: int = 1,
        reconstruction_weight: float = 1.0,
        contrastive_weight: float = 0.0,
        **switches: Any,
    ) -> Reconstructor:
        torch.manual_seed(0)
        recipe = PretrainRecipe(base_lr, 4, 0.05, warmup_epochs, reconstruction_weight, contrastive_weight)
        return Reconstructor(build_fusmae(architecture | switches), build_preprocess(preprocessing), recipe)

    return make


@pytest.fixture
def make_finetuner(architecture, preprocessing, classes) -> Callable[..., Finetuner]:
    """Makes a Finetuner with drop path and equal weights at each call."""

    def make(
        drop_path: float = 0.3, base_lr: float = 0.1, kind: Literal["multilabel", "multiclass"] = "multilabel"
    ) -> Finetuner:
        torch.manual_seed(0)
        encoder = build_encoder(architecture, drop_path=drop_path)
        recipe = FinetuneRecipe(base_lr, 4, 0.05, warmup_epochs=1, layer_decay=0.65, kind=kind)
        model = Classifier(encoder, "mean", ClassifierHead(16, len(classes)))
        return Finetuner(model, build_preprocess(preprocessing), recipe)

    return make


@pytest.fixture
def train() -> Callable[..., L.Trainer]:
    """Fits a module as the stages do, with the trainer that they build; `watching` are callbacks that they give it."""

    def run(
        module: L.LightningModule,
        data: PairDataModule,
        scratch: Path,
        *callbacks: Callback,
        epochs: int = 3,
        every: int = 3,
        seed: int = 0,
        watching: Sequence[Callback] = (),
    ) -> L.Trainer:
        trainer = build_trainer(Machine("cpu", every), epochs, seed, scratch, callbacks=watching)
        trainer.callbacks.extend(callbacks)  # type: ignore[attr-defined]
        fit(trainer, module, data, scratch)
        return trainer

    return run


@pytest.fixture
def weights_of() -> Callable[[torch.nn.Module], dict[str, Tensor]]:
    """A copy of a module's weights."""
    return lambda module: {name: tensor.clone() for name, tensor in module.state_dict().items()}
