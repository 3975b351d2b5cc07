"""The section `runtime` of params.yaml."""

from typing import Literal

from pydantic import Field

from fusmae.config.section import Section


class RuntimeConfig(Section):
    """How a run uses the machine; no result depends on it beyond float rounding.

    Attributes:
        num_workers: number of threads that prepare training batches in advance; 0 for none.
        accelerator: device type to train on.
        strategy: way in which processes of torchrun share a model. ddp: each holds all of it. fsdp: each holds a part
            of every block, and gathers a block when it runs it.
        checkpoint_every_steps: number of training steps between two resume checkpoints.
        scheduler: address of a Dask cluster for sharding; "" starts one on this machine.
        num_dask_workers: number of processes of the cluster on this machine; 0 for one per core.
        mirrors: addresses of folders with a dataset's archives, tried before the dataset's own address.
        num_connections: number of simultaneous transfers.
    """

    num_workers: int = Field(ge=0)
    accelerator: Literal["auto", "cpu", "gpu"]
    strategy: Literal["ddp", "fsdp"]
    checkpoint_every_steps: int = Field(gt=0)
    scheduler: str
    num_dask_workers: int = Field(ge=0)
    mirrors: list[str]
    num_connections: int = Field(gt=0)
