"""What MLflow knows of the runs behind a model."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from statistics import median
from typing import Any

from pydantic import BaseModel, ConfigDict

from fusmae.runs.provenance import FLOW_RUN_TAG

_POWER = "power_usage_watts"
# A gap this many times as long as the median one is a pause: nobody knows what the card did in it.
_PAUSE = 10


class RunFacts(BaseModel):
    """A training stage's MLflow run; what a store did not tell is None.

    Attributes:
        stage: the run's stage: `finetune-pretrained`.
        run_id: MLflow's.
        experiment: its MLflow experiment.
        status: FINISHED for a run that came to its end.
        started: when, in UTC.
        seconds: from its first start to its end; a pause after a kill counts.
        commit: of the code that ran.
        is_dirty: the code had uncommitted changes; None too where there was no git to tell.
        device: what it computed on.
        num_threads: of the CPU.
        flow_run: Prefect's flow run that called it.
        gpu_wh: energy of the graphics cards, where their power was recorded; gaps of more than 10 times the median
            sampling interval are pauses after a kill, and count nothing.
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
        """As a run file names it."""
        return {"stage": self.stage, "run_id": self.run_id, "experiment": self.experiment}

    @property
    def is_known(self) -> bool:
        """The store that was asked had the run."""
        return self.status is not None


def run_facts(named: Mapping[str, str], client: Any) -> RunFacts:
    """All that a store tells of a run; only its name and id where it lacks the run.

    Args:
        named: a run file's `stage`, `run_id` and `experiment`.
        client: an `MlflowClient`.
    """
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
    # Outside of a git checkout a run is tagged with commit None and no changes.
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
    """Energy of every card, from the power that MLflow sampled; None where it sampled none."""
    names = [name for name in run.data.metrics if name.startswith("system/gpu_") and name.endswith(_POWER)]
    if not names:
        return None
    return sum(_watt_hours(client.get_metric_history(run.info.run_id, name)) for name in names)


def _watt_hours(samples: Sequence[Any]) -> float:
    """By trapezoids between neighbouring samples, without those that span a pause."""
    pairs = list(pairwise(sorted(samples, key=lambda sample: sample.timestamp)))
    gaps = [b.timestamp - a.timestamp for a, b in pairs]
    longest = _PAUSE * median([gap for gap in gaps if gap] or [0])
    joules = [gap / 1000 * (a.value + b.value) / 2 for gap, (a, b) in zip(gaps, pairs, strict=True) if gap <= longest]
    return float(sum(joules)) / 3600
