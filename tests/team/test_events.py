"""What happens by itself: events start deployments, and people are told of failures."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from flows.experiment import lay_over
from tests.pipeline.test_examine import write_pairs
from tests.team.team import wait_for
from tests.team.test_deployments import QUICK

pytestmark = [pytest.mark.xdist_group("team"), pytest.mark.timeout(900)]
EMIT = (
    "from flows.events import emit_{0}; emit_{0}({1}); "
    "from prefect.events.worker import EventsWorker; EventsWorker.drain_all()"
)


@pytest.fixture
def paused(team):
    """No worker takes what an event starts: it would be a whole pipeline."""
    team.run("prefect", "work-pool", "pause", "cpu")
    yield
    team.run("prefect", "work-pool", "resume", "cpu")


def runs_of(team, deployment):
    wanted = {"name": {"any_": [deployment]}}
    return {run["id"]: run for run in team.ask("flow_runs/filter", deployments=wanted, limit=200)}


@pytest.mark.parametrize(
    ("command", "started"),
    [
        (("prefect", "event", "emit", "fusmae.raw-data.new", "--resource-id", "fusmae.source.folder"), "pipeline"),
        (("python", "-c", EMIT.format("drift", "'a-scene', 'fusmae@champion'")), "pipeline"),
        (("python", "-c", EMIT.format("champion", "'fusmae'")), "drift"),
    ],
)
def test_an_event_starts_the_deployment_that_it_calls_for(team, paused, command, started):
    before = runs_of(team, started)
    team.run(*command)
    made = wait_for(lambda: runs_of(team, started).keys() - before.keys(), f"a run of {started}")
    (run,) = made
    cause = {tag for tag in runs_of(team, started)[run]["tags"] if tag.startswith("auto")}
    assert runs_of(team, started)[run]["created_by"]["type"] == "AUTOMATION", cause
    team.run("prefect", "flow-run", "delete", run)


@pytest.fixture
def own_pairs(team):
    """A checkout in whose commit six pairs of a user's own are indexed; then three more are brought."""
    raw = team.folder / "data/raw/folder"
    write_pairs(raw)
    table = (raw / "pairs.csv").read_text()
    (raw / "pairs.csv").write_text("\n".join(table.splitlines()[:7]) + "\n")
    lay_over(team.folder, ["data=folder", "data.source.classes=[water,land]", "gate.bootstrap_resamples=20", *QUICK])
    team.run("dvc", "repro", "index")
    commit = ["-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-q", "-a", "-m", "six pairs of our own"]
    team.workspace.run("git", *commit)
    (raw / "pairs.csv").write_text(table)
    yield {line.split(",")[0] for line in table.splitlines()[1:]}
    team.workspace.run("git", "reset", "-q", "--hard", "HEAD~1")
    team.run("dvc", "checkout", "--force", "--allow-missing", "--quiet", check=False)


def started_by(team, *command):
    """The one run of `pipeline` that an event starts, when it has ended."""
    before = runs_of(team, "pipeline")
    team.run(*command)
    (run,) = wait_for(lambda: runs_of(team, "pipeline").keys() - before.keys(), "a run of pipeline")
    assert team.finish(run, 900) == "COMPLETED", team.log.read_text()[-5000:]
    return run


def tasks_of(team, run):
    return {task["name"] for task in team.ask("task_runs/filter", flow_runs={"id": {"any_": [run]}}, limit=100)}


def log_of(team, run):
    found = team.ask("logs/filter", logs={"flow_run_id": {"any_": [run]}}, sort="TIMESTAMP_DESC", limit=200)
    return [line["message"] for line in found]


def test_new_raw_files_come_into_the_index_and_a_version_and_drift_without_new_ones_trains_nothing(team, own_pairs):
    run = started_by(team, "prefect", "event", "emit", "fusmae.raw-data.new", "--resource-id", "fusmae.source.folder")
    printed = team.run("fusmae", "lineage", "fusmae@challenger", "--json")
    found = json.loads(printed[printed.index("{") :])  # behind what the command says while it looks
    assert found["flow_run"] == run
    (index,) = [stage["outs"]["data/index.parquet"] for stage in found["stages"] if stage["name"] == "index"]
    cached = team.folder / ".dvc/cache/files/md5" / index[:2] / index[2:]
    read = "import sys, pyarrow.parquet as p; print(*p.read_table(sys.argv[1])['key'].to_pylist())"
    assert set(team.workspace.python(read, str(cached)).split()) == own_pairs
    again = started_by(team, "python", "-c", EMIT.format("drift", "'a-scene', 'fusmae@champion'"))
    assert "fetch" in tasks_of(team, again)
    assert "index" not in tasks_of(team, again)
    # A run's last lines reach the server a little after its state.
    wait_for(lambda: [text for text in log_of(team, again) if "no new raw data" in text], "the notice in the log")


def test_automations_are_brought_up_to_date_and_not_made_twice(team):
    names = [found["name"] for found in team.ask("automations/filter", limit=100)]
    printed = team.run("python", "-m", "flows.deploy")
    assert printed.count("brought up to date") == len(names) == 5
    assert sorted(found["name"] for found in team.ask("automations/filter", limit=100)) == sorted(names)


class Told(BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.heard.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def webhook():
    server = HTTPServer(("127.0.0.1", 0), Told)
    server.heard = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


SAVE = """
import sys
from prefect.blocks.notifications import CustomWebhookNotificationBlock as Block
Block(name="fusmae", url=sys.argv[1], json_data={"text": "{{subject}}: {{body}}"}).save("fusmae", overwrite=True)
"""


def test_a_run_with_a_wrong_override_fails_before_anything_runs_and_people_are_told(team, webhook):
    team.run("python", "-c", SAVE, f"http://127.0.0.1:{webhook.server_port}/hook")
    run = team.start("evaluate/evaluate", overrides=["no.such=1"])
    assert team.finish(run) == "FAILED"
    assert not team.ask("task_runs/filter", flow_runs={"id": {"any_": [run]}}, limit=10)
    assert "no.such" in team.ask(f"flow_runs/{run}")["state"]["message"]
    (said,) = wait_for(lambda: webhook.heard, "the webhook")
    text = json.loads(said)["text"]
    assert run in text
    assert "evaluate" in text
    assert "failed" in text
