"""New raw files start the pipeline: what its run, by a worker, takes, makes and leaves."""

import json
import shutil

import pytest

from flows.workspace import lay_over
from tests.pipeline.test_examine import write_pairs
from tests.team.team import EMIT, QUICK, runs_of, wait_for, worktrees

pytestmark = [pytest.mark.xdist_group("team"), pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def finished_run(team, own_pairs):
    """The whole pipeline, by a worker, because an event said that there are new files."""
    return started_by(team, "prefect", "event", "emit", "fusmae.raw-data.new", "--resource-id", "fusmae.source.folder")


def test_new_raw_files_come_into_the_index_and_a_version(team, own_pairs, finished_run):
    printed = team.run("fusmae", "lineage", "fusmae@challenger", "--json")
    found = json.loads(printed[printed.index("{") :])  # behind what the command says while it looks
    assert found["flow_run"] == finished_run
    (index,) = [stage["outs"]["data/index.parquet"] for stage in found["stages"] if stage["name"] == "index"]
    cached = team.folder / ".dvc/cache/files/md5" / index[:2] / index[2:]
    read = "import sys, pyarrow.parquet as p; print(*p.read_table(sys.argv[1])['key'].to_pylist())"
    assert set(team.workspace.python(read, str(cached)).split()) == own_pairs


def test_the_worktree_is_gone_when_the_run_is_done(team, finished_run):
    assert not [path for path in worktrees(team.folder) if path.name == finished_run]
    assert finished_run not in team.workspace.run("git", "worktree", "list").stdout


def test_flow_run_mlflow_run_experiment_and_commit_name_each_other(team, finished_run):
    experiment, commit = f"pipeline-{finished_run[:8]}", team.workspace.run("git", "rev-parse", "HEAD").stdout.strip()
    (run,) = team.mlflow_runs(finished_run, "pretrain")
    tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
    assert (tags["fusmae.dvc_experiment"], tags["fusmae.git_commit"]) == (experiment, commit)
    wanted = {"artifacts": {"key": {"any_": ["lineage"]}}, "flow_runs": {"id": {"any_": [finished_run]}}}
    (artifact,) = team.ask("artifacts/filter", **wanted)
    assert artifact["flow_run_id"] == finished_run
    table = {row["what"]: row["which"] for row in json.loads(artifact["data"])}
    assert (table["commit"], table["DVC experiment"]) == (commit, experiment)
    assert run["info"]["run_id"] in table["MLflow run of pretrain"]
    message = team.message(experiment)
    assert finished_run in message
    assert run["info"]["run_id"] in message


def test_a_run_is_one_task_a_stage(team, finished_run):
    stages = set(team.run("dvc", "stage", "list", "--name-only").split())
    assert tasks_of(team, finished_run) == stages | {"pull", "save", "push"}


def test_a_host_with_nothing_takes_what_a_run_made_from_the_remote(team, finished_run):
    for kept in (".dvc/cache", ".fusmae/raw", ".fusmae/dvc"):
        shutil.rmtree(team.folder / kept)
    again = team.start("pipeline/pipeline")
    assert team.finish(again, 600) == "COMPLETED", team.log.read_text()[-5000:]
    assert not team.mlflow_runs(again, "pretrain")
    assert team.locked(f"pipeline-{again[:8]}") == team.locked(f"pipeline-{finished_run[:8]}")


def test_drift_without_new_raw_files_trains_nothing(team, finished_run):
    again = started_by(team, "python", "-c", EMIT.format("drift", "'a-scene', 'fusmae@champion'"))
    assert "fetch" in tasks_of(team, again)
    assert "index" not in tasks_of(team, again)
    # A run's last lines reach the server a little after its state.
    wait_for(lambda: [text for text in log_of(team, again) if "no new raw data" in text], "the notice in the log")
