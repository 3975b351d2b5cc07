"""MLflow runs: one per training stage; a restarted stage continues its run."""

import json
import platform
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import torch

from fusmae.files import write_json
from fusmae.runs.device import device_of
from fusmae.runs.distributed import ranks
from fusmae.runs.mlflow_store import connect, find_run, known_run, open_experiment
from fusmae.runs.provenance import HOSTS_TAG, dotted, flow_tags, provenance, resume_key, with_host
from fusmae.runs.resume_folder import resume_folder, resume_path

_RUN_FILE = "run_id"


@dataclass(frozen=True)
class Run:
    """An open MLflow run; of several processes that train together, only the first has it."""

    run_id: str  # MLflow's id; "" in the other processes
    resume_folder: Path  # folder for resume checkpoints; removed when the run is done
    facts: dict[str, Any]  # provenance of the stage's results
    is_first: bool = True  # whether this process writes the stage's results

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Log final numbers; MLflow allows no plus sign in a name, so `+` becomes `-`."""
        mlflow.log_metrics({name.replace("+", "-"): value for name, value in metrics.items()}, run_id=self.run_id)

    def log_folder(self, folder: Path) -> None:
        """Log every file of a folder (pictures, tables) as artifacts under the folder's name."""
        mlflow.log_artifacts(str(folder), folder.name, run_id=self.run_id)

    def log_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Log a value as an artifact, a JSON file of this name."""
        mlflow.log_dict(dict(value), name, run_id=self.run_id)


@contextmanager
def stage_run(
    stage: str,
    *,
    experiment: str,
    seed: int,
    params: Mapping[str, Any],
    inputs: Sequence[Path],
    code: Mapping[str, str],
    run_file: Path,
    accelerator: str,
    data: str = "",
) -> Iterator[Run]:
    """Open a training stage's run, named `stage` as DVC does: a new one, or the one that was interrupted.

    `params` are all parameters that the stage reads, `inputs` its files and folders, `code` the hashes of `stage_code`;
    `accelerator` is the trainer's setting, and `data` the data set's name and licence terms. A missing experiment is
    made. When the stage is done, the run's id is written to the JSON `run_file`.

    Raises:
        RegistryError: MLflow's store does not answer.
    """
    key = resume_key(stage, {"seed": seed, **params}, inputs, code)
    if not ranks().is_first:
        yield Run("", resume_path(stage, key), {}, is_first=False)
        return
    connect()
    facts = {**provenance(stage, inputs, seed), "data": data}
    mlflow.set_system_metrics_sampling_interval(2)  # type: ignore[no-untyped-call]
    mlflow.set_system_metrics_samples_before_logging(1)  # type: ignore[no-untyped-call]
    with resume_folder(stage, key) as folder:
        remembered = folder / _RUN_FILE
        run_id = known_run(remembered.read_text(encoding="utf-8")) if remembered.exists() else None
        with mlflow.start_run(
            run_id=run_id, experiment_id=open_experiment(experiment), run_name=stage, log_system_metrics=True
        ) as active:
            if run_id is None:
                mlflow.set_tags(_tags(facts))
                mlflow.log_params(dotted({"seed": seed, **params}))
                _log_inputs(facts["inputs"])
                remembered.write_text(active.info.run_id, encoding="utf-8")
            # The machines and the last flow that worked on the run are tags only: no result may depend on them.
            hosts = with_host(active.data.tags.get(HOSTS_TAG, ""), socket.gethostname(), facts["git"]["commit"])
            mlflow.set_tags({**describe_hardware(accelerator), **flow_tags(), HOSTS_TAG: hosts})
            yield Run(active.info.run_id, folder, facts)
        write_json(run_file, {"run_id": active.info.run_id, "experiment": experiment, "stage": stage})


def log_to_run(run_file: Path, metrics: Mapping[str, float], folder: Path) -> None:
    """Add a later stage's numbers and files to the run that `run_file` names, if MLflow still has it."""
    connect()
    run_id = find_run(run_file)
    if run_id is not None:
        mlflow.log_metrics(dict(metrics), run_id=run_id)
        mlflow.log_artifacts(str(folder), folder.name, run_id=run_id)


def describe_hardware(accelerator: str) -> dict[str, str]:
    """Device, threads and processes, as tags of a run: why results of two machines differ in their last bits."""
    is_on_gpu = device_of(accelerator).type == "cuda"
    return {
        "fusmae.device": torch.cuda.get_device_name() if is_on_gpu else _cpu_name(),
        "fusmae.num_threads": str(torch.get_num_threads()),
        "fusmae.num_processes": str(ranks().num_ranks),
    }


def _cpu_name() -> str:
    listed = Path("/proc/cpuinfo")
    text = listed.read_text(encoding="utf-8", errors="replace") if listed.exists() else ""
    names = (line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _tags(facts: Mapping[str, Any]) -> dict[str, str]:
    return {
        "fusmae.stage": facts["stage"],
        "fusmae.data": facts["data"],
        "fusmae.git_commit": str(facts["git"]["commit"]),
        "fusmae.git_is_dirty": str(facts["git"]["is_dirty"]).lower(),
        "fusmae.inputs": json.dumps(facts["inputs"]),
    }


def _log_inputs(inputs: Mapping[str, str]) -> None:
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.data.sources import LocalArtifactDatasetSource  # type: ignore[attr-defined]

    for path, digest in inputs.items():
        source = LocalArtifactDatasetSource(str(Path(path).absolute()))
        # MLflow takes 36 characters: an md5 with ".dir" fits, a sha256 is cut.
        dataset = MetaDataset(source, name=path, digest=digest.split(":")[1][:36])  # type: ignore[abstract]
        mlflow.log_input(dataset, context="input")
