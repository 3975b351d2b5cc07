"""Deployments on real servers, run by real workers: what a run leaves, and who knows of whom."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from tests.team.team import SHORT, wait_for, worktrees

pytestmark = [pytest.mark.xdist_group("team"), pytest.mark.timeout(1200)]
ROOT = Path(__file__).parents[2]
DEPLOYED = {"preprocess", "pretrain", "finetune", "evaluate", "release", "pipeline", "promote", "rollback", "drift"}
QUICK = (
    "pretrain.epochs=3",
    "pretrain.num_pictures=1",
    "probe.epochs=2",
    "finetune.epochs=4",
    "finetune.warmup_epochs=1",
    "variants.rounds=3",
    "evaluate.bootstrap_resamples=20",
)


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


@pytest.fixture(scope="module")
def finished_run(team):
    """The whole pipeline with overrides, by a worker."""
    run = team.start("pipeline/pipeline", overrides=QUICK)
    assert team.finish(run, 900) == "COMPLETED", team.log.read_text()[-5000:]
    return run


def test_overrides_become_a_dvc_experiment_and_the_checkout_stays_as_it_was(team, finished_run):
    assert f"pipeline-{finished_run[:8]}" in team.run("dvc", "exp", "list", "--name-only")
    assert not team.workspace.run("git", "status", "--porcelain", "--untracked-files=no").stdout
    shown = team.run("dvc", "exp", "diff", "HEAD", f"pipeline-{finished_run[:8]}", "--json")
    changed = json.loads(shown)["params"]["params.yaml"]
    assert changed["pretrain.epochs"]["new"] == 3


def test_the_worktree_is_gone_when_the_run_is_done(team, finished_run):
    assert not [path for path in worktrees(team.folder) if path.name == finished_run]
    assert finished_run not in team.workspace.run("git", "worktree", "list").stdout


def test_flow_run_mlflow_run_experiment_and_commit_name_each_other(team, finished_run):
    experiment, commit = f"pipeline-{finished_run[:8]}", team.workspace.run("git", "rev-parse", "HEAD").stdout.strip()
    (run,) = team.mlflow_runs(finished_run, "pretrain")
    tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
    assert (tags["fusmae.dvc_experiment"], tags["fusmae.git_commit"]) == (experiment, commit)
    (artifact,) = team.ask("artifacts/filter", artifacts={"key": {"any_": ["lineage"]}})
    assert artifact["flow_run_id"] == finished_run
    table = {row["what"]: row["which"] for row in json.loads(artifact["data"])}
    assert (table["commit"], table["DVC experiment"]) == (commit, experiment)
    assert run["info"]["run_id"] in table["MLflow run of pretrain"]
    names = team.workspace.run("git", "for-each-ref", "--format=%(refname)", "refs/exps").stdout.split()
    (name,) = [name for name in names if name.endswith(experiment)]
    message = team.workspace.run("git", "log", "-1", "--format=%B", name).stdout
    for named in (finished_run, run["info"]["run_id"], "pretrain.epochs=3"):
        assert named in message


def test_a_run_is_one_task_a_stage_and_its_model_version_names_it(team, finished_run):
    tasks = team.ask("task_runs/filter", flow_runs={"id": {"any_": [finished_run]}}, limit=100)
    names = {task["name"] for task in tasks}
    stages = set(team.run("dvc", "stage", "list", "--name-only").split())
    assert names == stages | {"pull", "save", "push"}
    assert finished_run in team.run("fusmae", "lineage", "fusmae@challenger", "--json")


def test_a_host_with_nothing_takes_what_a_run_made_from_the_remote(team, finished_run):
    for kept in (".dvc/cache", ".fusmae/raw", ".fusmae/dvc"):
        shutil.rmtree(team.folder / kept)
    again = team.start("pipeline/pipeline", overrides=QUICK)
    assert team.finish(again, 600) == "COMPLETED", team.log.read_text()[-5000:]
    assert not team.mlflow_runs(again, "pretrain")
    assert team.locked(f"pipeline-{again[:8]}") == team.locked(f"pipeline-{finished_run[:8]}")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("pretrain.epoch=3", "pretrain.epoch"),
        ("--force", "is not an override"),
        ("experiment=${oc.env:HOME}", "is not an override"),
        ("pretrain.epochs=2", "expected fewer than epochs, 2"),
    ],
)
def test_an_override_that_does_not_fit_fails_the_run_before_anything_runs(team, override, said):
    run = team.start("evaluate/evaluate", overrides=[override])
    assert team.finish(run) == "FAILED"
    assert not team.ask("task_runs/filter", flow_runs={"id": {"any_": [run]}}, limit=10)
    assert said in team.ask(f"flow_runs/{run}")["state"]["message"]


def test_two_runs_at_once_on_one_host_do_not_disturb_each_other(team):
    team.run("prefect", "work-pool", "set-concurrency-limit", "gpu", "2")
    runs = {seed: team.start("pretrain/pretrain", overrides=[*SHORT, f"seed={seed}"]) for seed in (0, 5)}
    met = wait_for(lambda: all(team.trainers(run) for run in runs.values()), "both trainers at once")
    assert met
    assert {team.finish(run) for run in runs.values()} == {"COMPLETED"}
    together = {seed: team.weights(run) for seed, run in runs.items()}
    assert together[0] != together[5]
    team.forget_results()
    alone = team.start("pretrain/pretrain", overrides=[*SHORT, "seed=5"])
    assert team.finish(alone) == "COMPLETED"
    assert team.weights(alone) == together[5]


def test_pools_are_stated_once():
    stated = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    pools = stated["definitions"]["pools"]
    assert all(deployment["work_pool"] in pools.values() for deployment in stated["deployments"])
