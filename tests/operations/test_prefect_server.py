"""Prefect's server and workers of compose.yaml: on PostgreSQL, nothing without a password."""

import json

import httpx
import pytest
import yaml

pytestmark = [pytest.mark.xdist_group("servers"), pytest.mark.timeout(900)]

FLOW = """
import mlflow
from prefect import flow

from fusmae.runs.mlflow_store import connect, open_experiment

@flow
def count() -> int:
    connect()
    with mlflow.start_run(experiment_id=open_experiment("counted")):
        mlflow.log_metric("count", 3)
    return 3
"""


@pytest.fixture(scope="module")
def worker(servers, prefect_server, mlflow_server):
    """The worker for the pool `cpu`; its workspace has one flow, deployed as prefect.yaml deploys ours."""
    service = servers.start("worker", port="8080")
    yield service
    service.stop()


@pytest.mark.parametrize("sign_in", [None, ("fusmae", "wrong"), ("admin", "pass")])
@pytest.mark.parametrize("path", ["/api/admin/version", "/api/admin/settings", "/api/work_pools/cpu"])
def test_without_a_right_password_nothing_is_told(prefect_server, path, sign_in):
    assert httpx.get(prefect_server.url + path, auth=sign_in, timeout=60).status_code == 401


def test_with_the_password_it_answers_from_postgresql(prefect_server, postgres):
    sign_in = (prefect_server.user, prefect_server.password)
    made = httpx.post(f"{prefect_server.url}/api/variables/", auth=sign_in, json={"name": "sea", "value": "ice"})
    assert made.status_code == 201, made.text
    assert postgres.query("SELECT name, value FROM variable", database="prefect") == [("sea", "ice")]


def test_a_worker_runs_a_deployed_flow_to_its_end(worker, servers, postgres):
    ours = yaml.safe_load((servers.repository / "prefect.yaml").read_text(encoding="utf-8"))
    deployment = {"name": "count", "entrypoint": "count.py:count", "work_pool": {"name": "cpu"}}
    (worker.folder / "count.py").write_text(FLOW, encoding="utf-8")
    (worker.folder / "prefect.yaml").write_text(yaml.safe_dump(ours | {"deployments": [deployment]}), encoding="utf-8")
    code, said = worker.run_once("prefect", "--no-prompt", "deploy", "--name", "count")
    assert code == 0, said
    assert "successfully created" in said
    code, said = worker.run_once("prefect", "deployment", "run", "count/count", "--watch")
    assert code == 0, said + worker.printed()
    assert postgres.query("SELECT state_type FROM flow_run", database="prefect") == [("COMPLETED",)]
    logged = "SELECT m.value FROM metrics m JOIN runs r USING (run_uuid) JOIN experiments e USING (experiment_id) "
    assert postgres.query(f"{logged} WHERE e.name = 'counted'", database="mlflow") == [(3.0,)]


def test_the_worker_takes_one_run_at_a_time(worker, prefect_server):
    code, shown = worker.run_once("prefect", "work-pool", "inspect", "cpu", "--output", "json")
    assert code == 0, shown
    assert json.loads(shown)["type"] == "process"
    command = worker.definition["command"]
    assert command[command.index("--limit") + 1] == "1"


def test_the_worker_for_gpus_comes_to_life_on_a_pool_of_its_own(servers, prefect_server, mlflow_server):
    sign_in = (prefect_server.user, prefect_server.password)

    def pool():
        return httpx.get(f"{prefect_server.url}/api/work_pools/gpu", auth=sign_in, timeout=60).json()

    service = servers.start("worker-gpu", port="8080")
    servers.wait_for(lambda: pool().get("status") == "READY", "the pool")
    service.stop()
    assert pool()["type"] == "process"
