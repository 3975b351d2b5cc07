"""The section `runtime` of params.yaml."""

from typing import Any, Literal

from pydantic import Field

from fusmae.config.section import Section


class RuntimeConfig(Section):
    """How a run uses the machine; no result depends on it beyond float rounding.

    Attributes:
        num_workers: threads that make training's batches ahead, 0 for none.
        strategy: how the processes that torchrun starts share a model: each has all of it (ddp), or a share (fsdp).
        scheduler: address of a Dask cluster for sharding; "" starts one on this machine.
        num_dask_workers: processes of the cluster on this machine, 0 for one a core.
        mirrors: addresses of folders with a dataset's archives, tried before its own.
        num_connections: transfers at a time.
    """

    num_workers: int = Field(ge=0)
    accelerator: Literal["auto", "cpu", "gpu"]
    strategy: Literal["ddp", "fsdp"]
    checkpoint_every_steps: int = Field(gt=0)
    scheduler: str
    num_dask_workers: int = Field(ge=0)
    mirrors: list[str]
    num_connections: int = Field(gt=0)

    @property
    def machine(self) -> dict[str, Any]:
        """What a trainer needs of it."""
        return self.model_dump(include={"accelerator", "strategy", "checkpoint_every_steps"})
