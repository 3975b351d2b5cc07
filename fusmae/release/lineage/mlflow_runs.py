"""Reads facts on the runs behind a model from MLflow."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from statistics import median
from typing import Any

from pydantic import BaseModel, ConfigDict

from fusmae.runs.provenance import FLOW_RUN_TAG

_POWER = "power_usage_watts"
# A gap this many times as long as the median gap is a pause, in which the card's power is unknown.
_PAUSE = 10


class RunFacts(BaseModel):
    """The MLflow run of a training stage; facts that the store does not have are None.

    Attributes:
        stage: name of the stage, such as `finetune-pretrained`.
        run_id: MLflow's id of the run.
        experiment: name of its MLflow experiment.
        status: MLflow's status; FINISHED for a run that was completed.
        started: time of its first start, UTC.
        seconds: time from its first start to its end in seconds, with pauses after a kill.
        commit: commit of the code that ran.
        is_dirty: whether the code had uncommitted changes; None also without a git checkout.
        device: device on which it computed.
        num_threads: number of CPU threads.
        flow_run: id of Prefect's flow run that started it.
        gpu_wh: energy of the graphics cards in watt-hours, if their power was recorded; gaps of more than 10 times the
            median sampling interval are pauses after a kill, and are left out.
    """

    model_config = ConfigDict(frozen=True)

    stage: str
    run_id: str
    experiment: str
    status: str | None = None
    started: datetime | None = None
    seconds: float | None = None
    commit: str | None = None
    is_dirty: bool | None = None
    device: str | None = None
    num_threads: int | None = None
    flow_run: str | None = None
    gpu_wh: float | None = None

    @property
    def named(self) -> dict[str, str]:
        """The run as a run file states it."""
        return {"stage": self.stage, "run_id": self.run_id, "experiment": self.experiment}

    @property
    def is_known(self) -> bool:
        """Whether the store had the run."""
        return self.status is not None


def run_facts(named: Mapping[str, str], client: Any) -> RunFacts:
    """Read the facts on the run that a run file names; only what the file states if the client's store lacks it."""
    from mlflow.exceptions import MlflowException

    known = RunFacts(stage=named["stage"], run_id=named["run_id"], experiment=named["experiment"])
    try:
        run = client.get_run(known.run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return known
        raise
    info, tags = run.info, run.data.tags
    threads, dirty = tags.get("fusmae.num_threads"), tags.get("fusmae.git_is_dirty")
    # Outside of a git checkout, the run's tags are commit `None` and no changes.
    commit = None if tags.get("fusmae.git_commit") == "None" else tags.get("fusmae.git_commit")
    return known.model_copy(
        update={
            "status": str(info.status),
            "started": datetime.fromtimestamp(info.start_time / 1000, UTC),
            "seconds": (info.end_time - info.start_time) / 1000 if info.end_time else None,
            "commit": commit,
            "is_dirty": dirty == "true" if dirty and commit else None,
            "device": tags.get("fusmae.device"),
            "num_threads": int(threads) if threads else None,
            "flow_run": tags.get(FLOW_RUN_TAG),
            "gpu_wh": _gpu_wh(client, run),
        }
    )


def _gpu_wh(client: Any, run: Any) -> float | None:
    """Energy of all cards in watt-hours, from the power that MLflow sampled; None if there are no samples."""
    names = [name for name in run.data.metrics if name.startswith("system/gpu_") and name.endswith(_POWER)]
    return sum(_watt_hours(client.get_metric_history(run.info.run_id, name)) for name in names) if names else None


def _watt_hours(samples: Sequence[Any]) -> float:
    """Energy in watt-hours, by trapezoids between neighbouring samples, without those that span a pause."""
    pairs = list(pairwise(sorted(samples, key=lambda sample: sample.timestamp)))
    gaps = [b.timestamp - a.timestamp for a, b in pairs]
    longest = _PAUSE * median([gap for gap in gaps if gap] or [0])
    joules = [gap / 1000 * (a.value + b.value) / 2 for gap, (a, b) in zip(gaps, pairs, strict=True) if gap <= longest]
    return float(sum(joules)) / 3600
