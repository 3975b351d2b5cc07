"""The one way a Trainer is made: same callbacks, precision and resume for every objective."""

import io
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

from fusmae.data.randomness import Purpose, generators
from fusmae.files import written_whole
from fusmae.models.drop_path import DropPath
from fusmae.runs.distributed import ranks
from fusmae.training.guards import FiniteGradients
from fusmae.training.parallel import PortableOptimizer, SameStart, Sharing, StopTogether, build_strategy

LAST = "last"


@dataclass(frozen=True)
class Machine:
    """What a run may use.

    Attributes:
        accelerator: auto, cpu or gpu.
        checkpoint_every_steps: steps between resume checkpoints.
        strategy: how several processes share the model.
    """

    accelerator: str
    checkpoint_every_steps: int
    strategy: Sharing = "ddp"


class KeyedDropPath(Callback):
    """Draws drop path by (seed, epoch, pair): the same after a restart, and on any number of processes."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        """Give every drop path its draws `[B]` for this batch."""
        paths = [part for part in module.modules() if isinstance(part, DropPath)]
        if not paths:
            return
        keys = [(trainer.current_epoch, index) for index in batch.indices.tolist()]
        noise = np.empty((len(keys), len(paths)), np.float32)
        for row, random in zip(noise, generators(self.seed, Purpose.DROPOUT, keys), strict=True):
            random.random(dtype=np.float32, out=row)
        for path, drawn in zip(paths, torch.from_numpy(noise).to(module.device).unbind(1), strict=True):
            path.noise = drawn


class CheckpointOnStop(Callback):
    """Writes the resume checkpoint when a run is asked to end (SIGTERM), so that nothing is done twice.

    Not after an error: what led to it must not be resumed from.
    """

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch

    def on_exception(self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException) -> None:
        """Save where Lightning stops for SIGTERM: behind a finished batch."""
        if isinstance(exception, SIGTERMException):
            trainer.save_checkpoint(self.scratch / f"{LAST}.ckpt")


class ResumeCheckpoint(ModelCheckpoint):
    """Writes at an epoch's last step only behind its validation: to go on from before it would leave that out."""

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save after every so many steps, but not yet after an epoch's last."""
        if not trainer.is_last_batch:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save for the epoch's last step."""
        super().on_train_batch_end(trainer, pl_module, None, None, 0)


class WholeFileIO(TorchCheckpointIO):
    """Resume checkpoints written beside and renamed: a kill or a full disk leaves the one before."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint whole or not at all.

        Raises:
            StorageError: the disk is full.
        """
        # Not Lightning's own saving: it writes to the system's temporary folder first, which may be another, full disk.
        content = io.BytesIO()
        torch.save(checkpoint, content)
        with written_whole(Path(path)) as partial:
            partial.write_bytes(content.getbuffer())


def build_trainer(
    machine: Machine,
    epochs: int,
    seed: int,
    scratch: Path,
    logger: Logger | None = None,
    callbacks: Sequence[Callback] = (),
    *,
    max_steps: int = -1,
    is_validated: bool = True,
) -> L.Trainer:
    """A Trainer with progress bar, resume checkpoints in `scratch` and bf16 where the hardware has it.

    Several processes that torchrun started share each batch. `callbacks` come before its own. Training ends
    after `max_steps`, if there are some, or `epochs`. Without `is_validated` the validation split isn't looked at.
    """
    _silence_hints()
    place = ranks()
    resume = ResumeCheckpoint(
        dirpath=scratch,
        filename=LAST,
        every_n_train_steps=machine.checkpoint_every_steps,
        save_top_k=1,
        enable_version_counter=False,
    )
    # Emulated bf16 is slower than float32.
    is_on_gpu = machine.accelerator != "cpu" and torch.cuda.is_available()
    has_bf16 = is_on_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
    return L.Trainer(
        accelerator=machine.accelerator,
        strategy=build_strategy(machine.strategy, place),
        devices=place.num_local,
        num_nodes=place.num_hosts,
        use_distributed_sampler=False,  # ours deals out the pairs itself
        precision="bf16-mixed" if has_bf16 else "32-true",
        max_epochs=epochs,
        max_steps=max_steps,
        logger=logger or False,
        callbacks=[
            *callbacks,
            resume,
            SameStart(),
            KeyedDropPath(seed),
            FiniteGradients(),
            PortableOptimizer(),
            StopTogether(),
            CheckpointOnStop(scratch),
            RichProgressBar(),
            *([LearningRateMonitor("epoch")] if logger else []),
        ],
        plugins=[WholeFileIO(), *_environment()],
        num_sanity_val_steps=0,
        limit_val_batches=None if is_validated else 0,
        log_every_n_steps=10,
        deterministic="warn",
        default_root_dir=scratch,
        enable_model_summary=False,
    )


def fit(trainer: L.Trainer, module: L.LightningModule, data: L.LightningDataModule, scratch: Path) -> dict[str, Tensor]:
    """Train, from the resume checkpoint in `scratch` where there is one.

    Returns:
        The module's weights, whole; where processes share one model out, on the first of them only.
    """
    last = scratch / f"{LAST}.ckpt"
    trainer.ckpt_path = last if last.exists() else None
    with warnings.catch_warnings():
        if all(map(_is_frozen, (part for part in module.modules() if not part.training))):
            warnings.filterwarnings("ignore", message="Found .* module\\(s\\) in eval mode")
        trainer.fit(module, datamodule=data, weights_only=True)
    return trainer.strategy.lightning_module_state_dict()


def predict(machine: Machine, module: L.LightningModule, loader: Any) -> list[Any]:
    """A module's predictions, batch by batch, in the loader's order."""
    _silence_hints()
    trainer = L.Trainer(
        accelerator=machine.accelerator,
        devices=1,
        plugins=_environment(),
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    return list(trainer.predict(module, loader) or [])


def _is_frozen(module: torch.nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in module.parameters())


def _environment() -> list[Any]:
    """Where torchrun has not started several processes, one trains alone: Lightning would else ask SLURM how many."""
    return [] if ranks().num_ranks > 1 else [LightningEnvironment()]


def _silence_hints() -> None:
    # Hints for the library's users, not for ours; each is the intended behaviour.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in (
        "Checkpoint directory .* exists and is not empty",
        "The number of training batches .* is smaller than the logging interval",
        "The '.*dataloader' does not have many workers",
        "FSDP2-wrapped module .* returned a view tensor",
        "You're using the WeightAveraging callback with a model that overrides the configure_model",
        "`isinstance\\(treespec, LeafSpec\\)` is deprecated",
    ):
        warnings.filterwarnings("ignore", message=message)
