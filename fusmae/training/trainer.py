"""The one way a Trainer is made: same callbacks, precision and resume for every objective."""

import io
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import SIGTERMException

from fusmae.data.randomness import Purpose, generator
from fusmae.files import written_whole
from fusmae.training.guards import FiniteGradients

LAST = "last"


@dataclass(frozen=True)
class Machine:
    """What a run may use.

    Attributes:
        accelerator: auto, cpu or gpu.
        checkpoint_every_steps: steps between resume checkpoints.
    """

    accelerator: str
    checkpoint_every_steps: int


class KeyedDropout(Callback):
    """Seeds torch before each batch by (seed, epoch, batch), so that drop path is the same after a restart."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed every device's generator."""
        draw = generator(self.seed, Purpose.DROPOUT, trainer.current_epoch, batch_idx).integers(2**63)
        torch.manual_seed(int(draw))


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


def build_trainer(machine: Machine, epochs: int, seed: int, scratch: Path, logger: Logger | bool = False) -> L.Trainer:
    """A Trainer with progress bar, resume checkpoints in `scratch` and bf16 where the hardware has it."""
    _silence_hints()
    resume = ModelCheckpoint(
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
        devices=1,
        use_distributed_sampler=False,  # ours deals out the pairs itself
        precision="bf16-mixed" if has_bf16 else "32-true",
        max_epochs=epochs,
        logger=logger,
        callbacks=[
            resume,
            KeyedDropout(seed),
            FiniteGradients(),
            CheckpointOnStop(scratch),
            RichProgressBar(),
            *([LearningRateMonitor("epoch")] if logger else []),
        ],
        plugins=[WholeFileIO()],
        num_sanity_val_steps=0,
        log_every_n_steps=10,
        deterministic="warn",
        default_root_dir=scratch,
        enable_model_summary=False,
    )


def fit(trainer: L.Trainer, module: L.LightningModule, data: L.LightningDataModule, scratch: Path) -> None:
    """Train, from the resume checkpoint in `scratch` where there is one."""
    last = scratch / f"{LAST}.ckpt"
    trainer.fit(module, datamodule=data, ckpt_path=last if last.exists() else None, weights_only=True)


def predict(machine: Machine, module: L.LightningModule, loader: Any) -> list[Any]:
    """A module's predictions, batch by batch, in the loader's order."""
    _silence_hints()
    trainer = L.Trainer(
        accelerator=machine.accelerator,
        devices=1,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    return list(trainer.predict(module, loader) or [])


def _silence_hints() -> None:
    # Hints for the library's users, not for ours; each is the intended behaviour.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in (
        "Checkpoint directory .* exists and is not empty",
        "The number of training batches .* is smaller than the logging interval",
        "The '.*dataloader' does not have many workers",
        "`isinstance\\(treespec, LeafSpec\\)` is deprecated",
    ):
        warnings.filterwarnings("ignore", message=message)
