"""MLflow's server of compose.yaml: on PostgreSQL, artifacts in the object store, nothing without a password."""

import json
import subprocess
import sys

import httpx
import pytest

pytestmark = [pytest.mark.xdist_group("servers"), pytest.mark.timeout(900)]

WORK = """
import json, mlflow, os
from fusmae.runs.mlflow_store import connect, open_experiment
assert not [name for name in os.environ if name.startswith("AWS")]
connect()
experiment = open_experiment("sea ice")
with mlflow.start_run(experiment_id=experiment) as run:
    mlflow.log_metric("loss", 0.25)
    mlflow.log_text("thick ice", "notes/a.txt")
client = mlflow.MlflowClient()
client.create_registered_model("ice")
version = client.create_model_version("ice", f"{run.info.artifact_uri}/notes", run.info.run_id)
client.set_registered_model_alias("ice", "challenger", version.version)
text = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/notes/a.txt")
found = client.get_model_version_by_alias("ice", "challenger").run_id
print(json.dumps({"run": run.info.run_id, "uri": run.info.artifact_uri, "text": text, "found": found}))
"""

CHAMPION = """
import sys
from pathlib import Path
from mlflow import MlflowClient
from fusmae.release.registry.versions import register_graph
register_graph("fusmae", Path(sys.argv[1]), extra_files=[], tags={}, experiment="fusmae", run_file=Path("none.json"))
MlflowClient().set_registered_model_alias("fusmae", "champion", "1")
"""

PROMOTION = """
from mlflow import MlflowClient
from fusmae.runs.mlflow_store import connect
from fusmae.release.registry.model_file import model_file
from fusmae.release.promotion.champion import move_champion
connect()
MlflowClient().delete_registered_model_alias("fusmae", "champion")
move_champion("promote", model_file("fusmae/1"), "")
"""

READER = """
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from fusmae.release.registry.model_file import model_file
print(model_file("fusmae@champion").label)
try:
    MlflowClient().delete_registered_model_alias("fusmae", "champion")
except MlflowException as error:
    print(error.error_code)
"""


def python(script, folder, environment, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert not done.returncode, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def worked(mlflow_server, tmp_path_factory):
    """What a client with nothing but address and password did."""
    return json.loads(python(WORK, tmp_path_factory.mktemp("client"), mlflow_server.env).splitlines()[-1])


@pytest.fixture(scope="module")
def champion(mlflow_server, exported, tmp_path_factory):
    """A version that is champion; the folder of the client that made it so."""
    folder = tmp_path_factory.mktemp("champion")
    python(CHAMPION, folder, mlflow_server.env, exported.path)
    return folder


@pytest.mark.parametrize("sign_in", [None, ("admin", "password1234"), ("nobody", "x" * 12)])
@pytest.mark.parametrize(
    "path",
    ["/", "/api/2.0/mlflow/experiments/search?max_results=1", "/api/2.0/mlflow-artifacts/artifacts", "/ajax-api/2.0/x"],
)
def test_without_a_right_password_nothing_is_told(mlflow_server, path, sign_in):
    assert httpx.get(mlflow_server.url + path, auth=sign_in, timeout=60).status_code == 401


def test_with_the_password_it_answers(mlflow_server):
    path = "/api/2.0/mlflow/experiments/search?max_results=1"
    answer = httpx.get(mlflow_server.url + path, auth=(mlflow_server.user, mlflow_server.password), timeout=60)
    assert answer.status_code == 200
    assert answer.json()["experiments"]


def test_it_answers_to_its_own_names_only(mlflow_server):
    path = "/api/2.0/mlflow/experiments/search?max_results=1"
    sign_in = (mlflow_server.user, mlflow_server.password)
    answer = httpx.get(mlflow_server.url + path, auth=sign_in, headers={"Host": "elsewhere.example"}, timeout=60)
    assert answer.status_code == 403


def test_runs_and_versions_are_rows_of_postgresql(worked, postgres):
    ((name, status),) = postgres.query(
        "SELECT e.name, r.status FROM runs r JOIN experiments e USING (experiment_id) "
        f"WHERE r.run_uuid = '{worked['run']}'",
        database="mlflow",
    )
    assert (name, status) == ("sea ice", "FINISHED")
    versions = postgres.query("SELECT version, run_id FROM model_versions WHERE name = 'ice'", database="mlflow")
    assert versions == [(1, worked["run"])]
    assert worked["found"] == worked["run"]


def test_accounts_are_rows_of_a_database_that_mlflow_itself_cannot_read(mlflow_server, postgres):
    users = postgres.query("SELECT username, is_admin FROM users ORDER BY username", database="mlflow_auth")
    assert users == [("admin", True), ("serve", False), ("worker", False)]
    may = postgres.query("SELECT has_database_privilege('mlflow', 'mlflow_auth', 'CONNECT')")
    assert may == [(False,)]


def test_artifacts_are_objects_of_the_bucket_and_travel_through_the_server(worked, s3):
    assert worked["uri"].startswith("mlflow-artifacts:/")
    assert worked["text"] == "thick ice"
    keys = [item["Key"] for item in s3.client.list_objects_v2(Bucket="fusmae", Prefix="mlflow/")["Contents"]]
    (key,) = [key for key in keys if worked["run"] in key]
    assert s3.client.get_object(Bucket="fusmae", Key=key)["Body"].read() == b"thick ice"


def test_who_serves_may_read_and_change_nothing(champion, servers, tmp_path):
    assert python(READER, tmp_path, servers.clients("serve")).split() == ["fusmae/1", "PERMISSION_DENIED"]


def test_the_service_answers_with_the_servers_champion(champion, servers):
    service = servers.start("serve", port="8080")
    answer = httpx.get(f"{service.url}/model", timeout=60).json()
    service.stop()
    assert (answer["name"], answer["version"]) == ("fusmae", "1")


def test_a_promotion_and_its_ledger_live_on_the_server(champion, mlflow_server):
    python(PROMOTION, champion, mlflow_server.env)
    command = [sys.executable, "-m", "fusmae", "ledger", "fusmae"]
    shown = subprocess.run(command, cwd=champion, env=mlflow_server.env, capture_output=True, text=True, timeout=300)
    assert not shown.returncode, shown.stderr
    assert "done promote" in shown.stdout
    assert shown.stdout.rstrip().endswith("champion: fusmae/1")


def test_its_database_can_be_brought_up_to_date(mlflow_server):
    code, printed = mlflow_server.run_once("sh", "-c", 'mlflow db upgrade "$MLFLOW_BACKEND_STORE_URI"')
    assert code == 0, printed
