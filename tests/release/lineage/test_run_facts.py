"""What MLflow knows of a run: time, machine, energy where it was measured."""

import pytest

from fusmae.release.lineage.record import RunFacts, run_facts
from fusmae.runs.mlflow_store import connect, open_experiment


@pytest.fixture
def client(tmp_path, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    connect()
    return MlflowClient()


def finished_run(client, tags=None):
    run = client.create_run(open_experiment("test"), start_time=1_000_000, tags=tags)
    client.set_terminated(run.info.run_id, end_time=1_090_000)
    return run.info.run_id


def facts_of(client, run_id):
    return run_facts({"stage": "pretrain", "run_id": run_id, "experiment": "test"}, client)


def test_a_run_has_its_duration_its_machine_and_its_flow_run(client):
    tags = {"fusmae.device": "a processor", "fusmae.num_threads": "2", "fusmae.flow_run": "f", "fusmae.git_commit": "c"}
    found = facts_of(client, finished_run(client, tags))
    assert (found.status, found.seconds, found.device, found.num_threads) == ("FINISHED", 90.0, "a processor", 2)
    assert (found.commit, found.is_dirty, found.flow_run) == ("c", None, "f")


@pytest.mark.parametrize(
    ("commit", "tag", "known"),
    [("c", "true", ("c", True)), ("c", "false", ("c", False)), ("None", "false", (None, None))],
)
def test_a_run_is_dirty_clean_or_not_known_to_be(client, commit, tag, known):
    tags = {"fusmae.git_commit": commit, "fusmae.git_is_dirty": tag}
    found = facts_of(client, finished_run(client, tags))
    assert (found.commit, found.is_dirty) == known


def test_a_run_that_the_store_lacks_keeps_its_name(client):
    found = facts_of(client, "0" * 32)
    assert not found.is_known
    assert found == RunFacts(stage="pretrain", run_id="0" * 32, experiment="test")


def test_energy_is_the_sampled_power_of_every_card_over_time(client):
    run_id = finished_run(client)
    for card, watts in (("gpu_0", 100.0), ("gpu_1", 300.0)):
        for second in (0, 1800, 3600):
            client.log_metric(run_id, f"system/{card}_power_usage_watts", watts, timestamp=second * 1000)
    assert facts_of(client, run_id).gpu_wh == pytest.approx(400.0)


def test_energy_of_a_pause_after_a_kill_is_not_counted(client):
    run_id = finished_run(client)
    first, pause = range(0, 3601, 120), 10 * 3600
    for second in [*first, *(3600 + pause + second for second in first)]:
        client.log_metric(run_id, "system/gpu_0_power_usage_watts", 300.0, timestamp=second * 1000)
    assert facts_of(client, run_id).gpu_wh == pytest.approx(600.0)


def test_energy_of_a_late_sample_is_counted(client):
    run_id = finished_run(client)
    for second in (0, 2, 4, 6, 20, 22):
        client.log_metric(run_id, "system/gpu_0_power_usage_watts", 360.0, timestamp=second * 1000)
    assert facts_of(client, run_id).gpu_wh == pytest.approx(2.2)


def test_energy_is_not_known_where_no_power_was_sampled(client):
    run_id = finished_run(client)
    client.log_metric(run_id, "system/cpu_utilization_percentage", 90)
    assert facts_of(client, run_id).gpu_wh is None
