"""The section `runtime` of params.yaml."""

from typing import Literal

from pydantic import Field

from fusmae.config.section import Count, Section


class RuntimeConfig(Section):
    """How a run uses the machine; no result depends on it beyond float rounding."""

    num_workers: int = Field(ge=0)  # number of threads that prepare training batches in advance; 0 for none
    accelerator: Literal["auto", "cpu", "gpu"]  # device type to train on
    # Way in which processes of torchrun share a model. ddp: each holds all of it. fsdp: each holds a part of every
    # block, and gathers a block when it runs it.
    strategy: Literal["ddp", "fsdp"]
    checkpoint_every_steps: Count  # number of training steps between two resume checkpoints
    scheduler: str  # address of a Dask cluster for sharding; "" starts one on this machine
    num_dask_workers: int = Field(ge=0)  # number of processes of the cluster on this machine; 0 for one per core
    mirrors: list[str]  # addresses of folders with a dataset's archives, tried before the dataset's own address
    num_connections: Count  # number of simultaneous transfers
