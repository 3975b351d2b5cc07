"""Deployments on real servers, run by real workers: what a run leaves, and who knows of whom."""

import json
from pathlib import Path

import pytest
import yaml

from tests.team.team import SHORT, SHORT_EPOCHS

pytestmark = [pytest.mark.xdist_group("team"), pytest.mark.timeout(1200)]
ROOT = Path(__file__).parents[2]
DEPLOYED = {"preprocess", "pretrain", "finetune", "evaluate", "release", "pipeline", "promote", "rollback", "drift"}


@pytest.fixture(scope="module")
def deployments(team):
    return {found["name"]: found for found in team.ask("deployments/filter", limit=50)}


def test_every_deployment_is_there_with_its_pool_and_described_parameters(deployments):
    assert set(deployments) == DEPLOYED
    pools = {name: found["work_pool_name"] for name, found in deployments.items()}
    assert {name for name, pool in pools.items() if pool == "gpu"} == {"pretrain", "finetune", "evaluate"}
    for name, found in deployments.items():
        assert found["description"], name
        for parameter, schema in found["parameter_openapi_schema"]["properties"].items():
            assert schema.get("description"), (name, parameter)
    overrides = deployments["pipeline"]["parameter_openapi_schema"]["properties"]["overrides"]
    assert {"items": {"type": "string"}, "type": "array"} in overrides["anyOf"]


def test_schedules_are_off_and_who_may_not_meet_waits(deployments):
    for name in ("preprocess", "pipeline", "drift"):
        (schedule,) = deployments[name]["schedules"]
        assert not schedule["active"]
    for name in ("preprocess", "release", "promote", "rollback"):
        assert deployments[name]["global_concurrency_limit"]["limit"] == 1
        assert deployments[name]["concurrency_options"]["collision_strategy"] == "ENQUEUE"


def test_each_worker_brings_its_own_checkout(deployments, team):
    steps = json.dumps([found["pull_steps"] for found in deployments.values()])
    assert "$FUSMAE_WORKSPACE" in steps
    assert str(team.folder) not in steps


def test_overrides_become_a_dvc_experiment_and_the_checkout_stays_as_it_was(team, two_runs):
    experiment = f"pretrain-{two_runs[0][:8]}"
    assert experiment in team.run("dvc", "exp", "list", "--name-only")
    assert not team.workspace.run("git", "status", "--porcelain", "--untracked-files=no").stdout
    changed = json.loads(team.run("dvc", "exp", "diff", "HEAD", experiment, "--json"))["params"]["params.yaml"]
    assert changed["pretrain.epochs"]["new"] == SHORT_EPOCHS
    message = team.message(experiment)
    for named in (two_runs[0], *SHORT):
        assert named in message


def test_two_runs_at_once_on_one_host_make_weights_of_their_own_seeds(team, two_runs):
    """Runs that are alone on the host end with the weights of seed 0: test_drills.py."""
    assert team.weights(two_runs[0]) != team.weights(two_runs[5])


def test_pools_are_stated_once():
    stated = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    pools = stated["definitions"]["pools"]
    assert all(deployment["work_pool"] in pools.values() for deployment in stated["deployments"])
