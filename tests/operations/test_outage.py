"""The database goes away for twenty seconds and comes back."""

import subprocess
import sys
import time

import httpx
import pytest

pytestmark = [pytest.mark.xdist_group("servers"), pytest.mark.timeout(900)]

GONE_S = 20

TRAINING = """
import mlflow, sys, time
from fusmae.runs.mlflow_store import connect, open_experiment
connect()
with mlflow.start_run(experiment_id=open_experiment("outage")):
    mlflow.log_metric("loss", 1.0, step=0)
    print("started", flush=True)
    sys.stdin.readline()
    began = time.monotonic()
    mlflow.log_metric("loss", 0.5, step=1)
    print("waited", time.monotonic() - began, flush=True)
"""


@pytest.fixture(scope="module")
def outlived(mlflow_server, prefect_server, postgres, tmp_path_factory):
    """Seconds that a training's call to MLflow took whose database was away; Prefect's status code meanwhile."""
    training = subprocess.Popen(
        [sys.executable, "-c", TRAINING],
        cwd=tmp_path_factory.mktemp("training"),
        env=mlflow_server.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert training.stdout.readline() == "started\n", training.stdout.read()
    postgres.stop()
    training.stdin.write("go on\n")
    training.stdin.flush()
    time.sleep(GONE_S)
    was_healthy, code = prefect_server.is_healthy(), training.poll()
    postgres.start()
    printed, _ = training.communicate(timeout=300)
    assert (code, training.returncode) == (None, 0), printed
    return float(printed.split("waited ")[1].split()[0]), was_healthy


def test_a_call_to_mlflow_waits_for_the_database_and_is_counted_once(outlived, postgres):
    waited_s, _ = outlived
    assert waited_s > GONE_S / 2
    rows = postgres.query(
        "SELECT m.step, m.value FROM metrics m JOIN runs r USING (run_uuid) JOIN experiments e USING (experiment_id) "
        "WHERE e.name = 'outage' ORDER BY m.step",
        database="mlflow",
    )
    assert rows == [(0, 1.0), (1, 0.5)]


def test_prefect_says_that_it_is_not_ready_and_is_again_afterwards(outlived, prefect_server, servers):
    _, was_healthy = outlived
    assert not was_healthy
    servers.wait_for(prefect_server.is_healthy, "Prefect")
    sign_in = (prefect_server.user, prefect_server.password)
    assert httpx.post(f"{prefect_server.url}/api/flows/filter", auth=sign_in, json={}, timeout=60).status_code == 200


def test_mlflow_signs_in_again_afterwards(outlived, mlflow_server):
    sign_in = (mlflow_server.user, mlflow_server.password)
    path = "/api/2.0/mlflow/experiments/get-by-name?experiment_name=outage"
    assert httpx.get(mlflow_server.url + path, auth=sign_in, timeout=60).status_code == 200
