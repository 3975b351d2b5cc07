"""Training one model in several processes: they share it, start at the same step and stop after the same batch."""

import os
import signal
from types import FrameType
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from lightning.pytorch.utilities.exceptions import SIGTERMException
from timm.models.vision_transformer import Block
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from fusmae.config.runtime import RuntimeConfig
from fusmae.errors import TrainingError
from fusmae.models.attention import XAttnEncoder
from fusmae.runs.distributed import Ranks, ranks


def build_strategy(runtime: RuntimeConfig, place: Ranks) -> Strategy | str:
    """Lightning's strategy for `runtime.strategy`; "auto" for a single process, which shares nothing."""
    if place.num_ranks == 1:
        return "auto"
    if runtime.strategy == "fsdp":
        return ModelParallelStrategy(
            data_parallel_size=place.num_ranks, tensor_parallel_size=1, save_distributed_checkpoint=False
        )
    # When a modality is dropped, some parameters have no gradient. Buffers are constants and need no synchronisation.
    return DDPStrategy(find_unused_parameters=True, forward_sync_buffers=False)


def shard_blocks(model: nn.Module, mesh: DeviceMesh | None) -> None:
    """Distribute a model's parameters, block by block, over the mesh of `fsdp`; without a mesh it stays whole."""
    if mesh is None or isinstance(model, FSDPModule):
        return
    for part in model.modules():
        if isinstance(part, Block | XAttnEncoder):
            fully_shard(part, mesh=mesh["data_parallel"])
    fully_shard(model, mesh=mesh["data_parallel"])


def mean_weight(num_pairs: int) -> int:
    """A batch's weight in a mean over an epoch and all processes.

    Lightning divides the sum of the weights by the number of processes and truncates it to an integer; weights that
    are multiples of the number of processes lose nothing.
    """
    return num_pairs * ranks().num_ranks


class PortableOptimizer(Callback):
    """Numbers the optimizer's states in a resume checkpoint by the model's parameters, as `fsdp` does, not by groups.

    So a run can be resumed with the other way of sharing the model, or with one process.
    """

    def on_save_checkpoint(self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Renumber the states unless the strategy has done so."""
        if isinstance(trainer.strategy, ModelParallelStrategy):
            return
        places = {parameter: place for place, parameter in enumerate(module.parameters())}
        for optimizer, saved in zip(trainer.optimizers, checkpoint["optimizer_states"], strict=True):
            numbers = [places[parameter] for group in optimizer.param_groups for parameter in group["params"]]
            saved["state"] = {numbers[at]: state for at, state in saved["state"].items()}
            for group in saved["param_groups"]:
                group["params"] = [numbers[at] for at in group["params"]]


class SameStart(Callback):
    """Refuses to train if only some processes see a resume checkpoint: they would wait for one another forever."""

    def setup(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        """Compare the processes before anything is loaded.

        Raises:
            TrainingError: only some processes see a resume checkpoint; it is raised in every process.
        """
        has_one = trainer.ckpt_path is not None
        decide = trainer.strategy.reduce_boolean_decision
        if decide(has_one, all=False) and not decide(has_one, all=True):
            raise TrainingError(
                "Some processes see the run's resume checkpoint and others don't.",
                got="one here" if has_one else "none here",
                expected="the project's folder on a disk that every host shares",
                hint="see docs/distributed.md; on a network disk, wait a minute and run the same command again",
            )


class StopTogether(Callback):
    """Ends all processes after the same batch when one receives SIGTERM, or when the torchrun that started it is gone.

    Lightning's own signal handler communicates with the other processes whatever they are doing, and they hang.
    """

    def __init__(self) -> None:
        self._is_told = False
        self._parent = os.getppid()

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Replace the handler of SIGTERM; Lightning restores the original one when training ends."""
        if trainer.world_size > 1:
            signal.signal(signal.SIGTERM, self._note)

    def _note(self, _: int, __: FrameType | None) -> None:
        self._is_told = True

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Ask all processes whether one of them has to end.

        Raises:
            SIGTERMException: a process has to end; it is raised in every process.
        """
        is_to_end = self._is_told or os.getppid() != self._parent
        if trainer.world_size > 1 and trainer.strategy.reduce_boolean_decision(is_to_end, all=False):
            raise SIGTERMException
