"""A team's servers of its own: other tests look at every run that theirs has."""

import pytest

from tests.operations.conftest import mlflow_server, postgres, prefect_server, s3, servers  # noqa: F401
from tests.pipeline.conftest import Workspace
from tests.team.team import BUCKET, SHORT, Team, wait_for


@pytest.fixture(scope="session")
def team(tmp_path_factory, servers, s3, mlflow_server, prefect_server):  # noqa: F811
    """A checkout with its deployments on MLflow's and Prefect's servers, a DVC remote, and a worker for each pool."""
    made = Team(Workspace(tmp_path_factory.mktemp("team") / "fusmae"), servers, s3.client)
    made.environment |= s3.env
    s3.client.create_bucket(Bucket=BUCKET)
    made.run("dvc", "remote", "add", "--local", "--default", "storage", f"s3://{BUCKET}/fusmae")
    made.run("dvc", "remote", "modify", "--local", "storage", "endpointurl", s3.url)
    made.run("python", "-m", "flows.deploy")
    for pool in ("cpu", "gpu"):
        made.start_worker(pool)
    made.supervisor.start()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def two_runs(team):
    """Two pretrainings at once on one host, by seed; nothing happens to them."""
    team.run("prefect", "work-pool", "set-concurrency-limit", "gpu", "2")
    runs = {seed: team.start("pretrain/pretrain", overrides=[*SHORT, f"seed={seed}"]) for seed in (0, 5)}
    wait_for(lambda: all(team.trainers(run) for run in runs.values()), "both trainers at once")
    assert {team.finish(run) for run in runs.values()} == {"COMPLETED"}, team.log.read_text()[-5000:]
    return runs


@pytest.fixture(scope="session")
def undisturbed(team, two_runs):
    """Weights of a run that nothing happened to; those of the drills ran alone."""
    return team.weights(two_runs[0])
