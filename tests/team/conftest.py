"""A team's servers of its own: other tests look at every run that theirs has."""

import pytest

from tests.operations.conftest import mlflow_server, postgres, prefect_server, s3, servers  # noqa: F401
from tests.pipeline.conftest import Workspace
from tests.team.team import BUCKET, SHORT, Team


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
def undisturbed_run(team):
    """A pretraining that nothing happens to; the first run that the checkout's worker has."""
    run = team.start("pretrain/pretrain", overrides=SHORT)
    assert team.finish(run) == "COMPLETED", team.log.read_text()[-5000:]
    return run


@pytest.fixture(scope="session")
def undisturbed(team, undisturbed_run):
    """Weights of a run that nothing happened to."""
    return team.weights(undisturbed_run)
