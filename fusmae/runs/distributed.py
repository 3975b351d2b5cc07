"""Which of several training processes this one is, as torchrun states it; without torchrun there is one process."""

import os
from dataclasses import dataclass

from fusmae.errors import TrainingError


@dataclass(frozen=True)
class Ranks:
    """This process among those that train one model: its number `rank`, counted from 0; process 0 writes all results.

    `num_ranks` is the number of processes on all hosts together, `num_local` that on each host.
    """

    rank: int = 0
    num_ranks: int = 1
    num_local: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process opens the MLflow run and writes checkpoints, models and pictures."""
        return self.rank == 0

    @property
    def num_hosts(self) -> int:
        """Number of hosts."""
        return self.num_ranks // self.num_local


def ranks() -> Ranks:
    """Read this process's place from the environment that torchrun sets.

    Raises:
        TrainingError: something else started several processes, or hosts have different numbers of them.
    """
    num_ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if num_ranks == 1:
        return Ranks()
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        raise TrainingError(
            "This process is to be one of several, but torchrun did not start it.",
            got=f"WORLD_SIZE={num_ranks} in the environment",
            expected="torchrun, which tells each process its place",
            hint="torchrun --nproc-per-node 2 -m fusmae …, or unset WORLD_SIZE to train with one process",
        )
    num_local = int(os.environ["LOCAL_WORLD_SIZE"])
    if num_ranks % num_local:
        raise TrainingError(
            "Hosts have different numbers of processes.",
            got=f"{num_ranks} processes, {num_local} of them on this host",
            expected="the same --nproc-per-node on every host",
        )
    return Ranks(int(os.environ["RANK"]), num_ranks, num_local)


def require_one_process(stage: str) -> None:
    """Refuse several processes for a stage that runs in one.

    Raises:
        TrainingError: torchrun started more than one process.
    """
    if (got := ranks().num_ranks) > 1:
        raise TrainingError(
            f"Stage {stage} runs in one process: its batch norm is over whole batches.",
            got=f"{got} processes",
            hint=f"start `fusmae {stage}` without torchrun; pretrain and finetune take several processes",
        )
