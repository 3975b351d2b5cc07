"""The MLflow runs, DVC experiment and commit of a flow run, shown with it in Prefect; each of them names it too."""

import json
import os
import socket
from pathlib import Path

from prefect.artifacts import create_table_artifact
from prefect.runtime import flow_run

from flows.hosts import hosts_of_run
from flows.workspace import Workspace
from fusmae.runs.mlflow_address import shown_uri


def mlflow_runs(folder: Path) -> dict[str, dict[str, str]]:
    """MLflow runs by name of each training stage with a result in the checkout: `run_id`, `experiment`, `stage`."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((folder / "reports/runs").glob("*.json"))]
    return {run["stage"]: run for run in found}


def link(workspace: Workspace, experiment: str) -> None:
    """Add the table `lineage` to the flow run.

    Args:
        workspace: workspace of the run.
        experiment: name of the run's DVC experiment; "" if nothing has changed.
    """
    rows = [
        {"what": "commit", "which": workspace.commit},
        {"what": "hosts", "which": hosts_of_run() or socket.gethostname()},
        {"what": "DVC experiment", "which": experiment or "none: nothing has changed"},
        *(
            {"what": f"MLflow run of {stage}", "which": _shown(run)}
            for stage, run in mlflow_runs(workspace.folder).items()
        ),
    ]
    create_table_artifact(key="lineage", table=rows, description=f"Flow run {flow_run.get_id()}; MLflow: {shown_uri()}")


def _shown(run: dict[str, str]) -> str:
    server = os.environ.get("MLFLOW_TRACKING_URI", "")
    run_id = run["run_id"]
    return f"[{run_id}]({shown_uri()}/#/runs/{run_id})" if server.startswith("http") else run_id
