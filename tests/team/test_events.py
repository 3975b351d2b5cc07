"""What happens by itself: events start deployments, and people are told of failures."""

import json

import pytest

from tests.team.team import EMIT, runs_of, wait_for
from tests.web import QuietHandler, web_server

pytestmark = [pytest.mark.xdist_group("team"), pytest.mark.timeout(900)]


@pytest.fixture
def paused(team):
    """No worker takes what an event starts: it would be a whole pipeline."""
    team.run("prefect", "work-pool", "pause", "cpu")
    yield
    team.run("prefect", "work-pool", "resume", "cpu")


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


def test_automations_are_brought_up_to_date_and_not_made_twice(team):
    names = [found["name"] for found in team.ask("automations/filter", limit=100)]
    printed = team.run("python", "-m", "flows.deploy")
    assert printed.count(": updated") == len(names) == 5
    assert sorted(found["name"] for found in team.ask("automations/filter", limit=100)) == sorted(names)


class Told(QuietHandler):
    def do_POST(self):
        self.server.heard.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(200)
        self.end_headers()


BLOCK = "from prefect.blocks.notifications import CustomWebhookNotificationBlock as Block"
SAVE = (
    f"import sys; {BLOCK}; "
    "block = Block(name='fusmae', url=sys.argv[1], json_data={'text': '{{subject}}: {{body}}'}); "
    "block.save('fusmae', overwrite=True)"
)


@pytest.fixture
def webhook(team):
    with web_server(Told) as server:
        server.heard = []
        team.run("python", "-c", SAVE, f"{server.address}/hook")
        yield server
        # Later runs would fail to call a webhook that is gone.
        team.run("python", "-c", f"{BLOCK}; Block.delete('fusmae')")


def test_a_run_with_a_wrong_override_fails_before_anything_runs_and_people_are_told(team, webhook):
    run = team.start("evaluate/evaluate", overrides=["no.such=1"])
    assert team.finish(run) == "FAILED"
    assert not team.ask("task_runs/filter", flow_runs={"id": {"any_": [run]}}, limit=10)
    assert "no.such" in team.ask(f"flow_runs/{run}")["state"]["message"]
    (said,) = wait_for(lambda: webhook.heard, "the webhook")
    text = json.loads(said)["text"]
    assert run in text
    assert "evaluate" in text
    assert "failed" in text
