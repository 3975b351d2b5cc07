"""The only place where a Trainer is built: every objective has the same callbacks, precision and way of resuming."""

import io
import logging
import time
import warnings
from collections.abc import Sequence
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

from fusmae.config.runtime import RuntimeConfig
from fusmae.data.datamodule import PairDataModule, ResumableLoader
from fusmae.data.randomness import Purpose, generators
from fusmae.errors import TrainingError
from fusmae.files import written_whole
from fusmae.models.attention import DropPath
from fusmae.runs.device import device_of
from fusmae.runs.distributed import ranks
from fusmae.training.parallel import PortableOptimizer, SameStart, StopTogether, build_strategy

LAST = "last"


class KeyedDropPath(Callback):
    """Draws drop path by (seed, epoch, pair), so that a restart or another number of processes changes no draw."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        """Set the random numbers `[B]` of every drop path for this batch."""
        paths = [part for part in module.modules() if isinstance(part, DropPath)]
        if not paths:
            return
        keys = [(trainer.current_epoch, index) for index in batch.indices.tolist()]
        noise = np.empty((len(keys), len(paths)), np.float32)
        for row, random in zip(noise, generators(self.seed, Purpose.DROPOUT, keys), strict=True):
            random.random(dtype=np.float32, out=row)
        for path, drawn in zip(paths, torch.from_numpy(noise).to(module.device).unbind(1), strict=True):
            path.noise = drawn


class FiniteGradients(Callback):
    """Refuses an optimizer step whose gradients are not finite: a finite loss can have them."""

    def on_before_optimizer_step(self, trainer: L.Trainer, module: L.LightningModule, optimizer: Any) -> None:
        """Check every gradient before weights change.

        Raises:
            TrainingError: gradients are not finite; the message names the step and the parameters.
        """
        gradients = {name: part.grad for name, part in module.named_parameters() if part.grad is not None}
        if torch.isfinite(torch.nn.utils.get_total_norm(gradients.values())):
            return
        # There is none where all gradients are finite and only the sum of their squares overflowed.
        if bad := [name for name, gradient in gradients.items() if not torch.isfinite(gradient).all()]:
            raise TrainingError(
                f"Gradients are not finite at step {trainer.global_step}, in {len(bad)} parameters: "
                f"{', '.join(bad[:3])}.",
                expected="finite gradients; the last good checkpoint is kept",
                hint="lower base_lr in params.yaml, then `dvc repro`",
            )


class ResumeCheckpoint(ModelCheckpoint):
    """Writes an epoch's last step only after the epoch's validation: resuming from before it would skip validation.

    A run that has to end (SIGTERM) is saved, too, so that no step is computed twice. After an error nothing is written,
    because a run must not resume from the state that led to the error.
    """

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save after every `every_n_train_steps` steps, but not yet after an epoch's last step."""
        if not trainer.is_last_batch:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save for the epoch's last step."""
        super().on_train_batch_end(trainer, pl_module, None, None, 0)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Save if the exception is SIGTERM's, which Lightning raises after a finished batch."""
        if isinstance(exception, SIGTERMException):
            trainer.save_checkpoint(_last(trainer))


class WholeFileIO(TorchCheckpointIO):
    """Writes resume checkpoints under a temporary name, then renames them: a kill or a full disk leaves the old one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint whole or not at all.

        Raises:
            StorageError: the disk is full.
        """
        # Not Lightning's own method: it first writes to the system's temporary folder, perhaps on another, full disk.
        content = io.BytesIO()
        torch.save(checkpoint, content)
        with written_whole(Path(path)) as partial:
            partial.write_bytes(content.getbuffer())


class History(Callback):
    """Keeps every logged number by epoch, and the duration of the run; both survive restarts."""

    def __init__(self) -> None:
        self.points: dict[str, list[tuple[float, float]]] = {}
        """Points (epoch, value) by name of the number, like `train/loss`."""
        # Duration of all training batches, and number of pairs that this process has trained on, over all restarts.
        self.seconds, self.pairs, self._since = 0.0, 0, 0.0

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        """Start the clock at the first batch after a start and after each epoch."""
        self._since = self._since or time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the batch's duration, including the time spent waiting for it."""
        now = time.perf_counter()
        self.seconds, self._since = self.seconds + now - self._since, now
        self.pairs += len(batch.indices)

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Record the epoch's numbers, including those of validation; the duration of validation is not counted."""
        for name, value in trainer.callback_metrics.items():
            self.points.setdefault(name, []).append((float(trainer.current_epoch), float(value)))
        self._since = 0.0

    def state_dict(self) -> dict[str, Any]:
        """State for the resume checkpoint."""
        return {"points": self.points, "seconds": self.seconds, "pairs": self.pairs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state from a resume checkpoint."""
        self.points, self.seconds, self.pairs = state["points"], state["seconds"], state["pairs"]


def build_trainer(
    runtime: RuntimeConfig,
    epochs: int,
    seed: int,
    resume_folder: Path,
    logger: Logger | None = None,
    callbacks: Sequence[Callback] = (),
    *,
    max_steps: int = -1,
    is_validated: bool = True,
) -> L.Trainer:
    """Build a Trainer with a progress bar, resume checkpoints, and bf16 where the hardware supports it.

    Several processes that torchrun started share each batch. `seed` is for drop path; `callbacks` run before those
    added here. Training ends after `max_steps`, if these are fewer than those of all epochs; -1 is no such limit. With
    `is_validated` the validation split is evaluated after each epoch.
    """
    _silence_hints()
    place = ranks()
    every = runtime.checkpoint_every_steps
    resume = ResumeCheckpoint(resume_folder, LAST, every_n_train_steps=every, enable_version_counter=False)
    # Emulated bf16 is slower than float32.
    is_on_gpu = device_of(runtime.accelerator).type == "cuda"
    has_bf16 = is_on_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
    return L.Trainer(
        accelerator=runtime.accelerator,
        strategy=build_strategy(runtime, place),
        devices=place.num_local,
        num_nodes=place.num_hosts,
        use_distributed_sampler=False,  # KeyedSampler shares the pairs among the processes
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
            RichProgressBar(),
            *([LearningRateMonitor("epoch")] if logger else []),
        ],
        # For a single process, or Lightning would take the number of processes from SLURM.
        plugins=[WholeFileIO(), *([LightningEnvironment()] if place.num_ranks == 1 else [])],
        num_sanity_val_steps=0,
        limit_val_batches=None if is_validated else 0,
        log_every_n_steps=10,
        deterministic="warn",
        default_root_dir=resume_folder,
        enable_model_summary=False,
    )


class _Loaders(L.LightningDataModule):
    """Makes the loaders of pairs when Lightning asks for them: then its processes know one another."""

    def __init__(self, pairs: PairDataModule) -> None:
        super().__init__()
        self.pairs = pairs

    def train_dataloader(self) -> ResumableLoader:
        return self.pairs.train_dataloader()

    def val_dataloader(self) -> ResumableLoader:
        return self.pairs.loader("validation")


def fit(trainer: L.Trainer, module: L.LightningModule, data: PairDataModule) -> dict[str, Tensor]:
    """Train, starting from the resume checkpoint if there is one.

    Returns:
        The module's whole weights by name; with `fsdp`, only the first process gets them.

    Raises:
        ShardError: a shard is damaged; it stops the run before the first step.
    """
    data.reader("train")
    data.reader("validation")
    trainer.ckpt_path = last if (last := _last(trainer)).exists() else None
    in_eval_mode = (part for part in module.modules() if not part.training)
    with warnings.catch_warnings():
        if not any(parameter.requires_grad for part in in_eval_mode for parameter in part.parameters()):
            warnings.filterwarnings("ignore", message="Found .* module\\(s\\) in eval mode")
        trainer.fit(module, datamodule=_Loaders(data), weights_only=True)
    return trainer.strategy.lightning_module_state_dict()


def _last(trainer: L.Trainer) -> Path:
    """Path of the resume checkpoint."""
    return Path(trainer.default_root_dir) / f"{LAST}.ckpt"


def _silence_hints() -> None:
    # These hints are meant for developers, not for this project's users; each concerns intended behaviour.
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
