"""What goes wrong at night: each drill ends in a finished run, the result of an undisturbed one, one MLflow run."""

import os
import shutil
import signal
import subprocess
import time

import psutil
import pytest

from tests.team.team import SHORT, SHORT_EPOCHS, kill_with_children, wait_for, worktrees

pytestmark = [pytest.mark.xdist_group("team"), pytest.mark.timeout(900)]


@pytest.fixture
def run(team, undisturbed):
    """A run in mid-training, and what must be true of it in the end."""
    team.forget_results()
    started = team.start("pretrain/pretrain", overrides=SHORT)
    yield started
    assert team.finish(started) == "COMPLETED", team.log.read_text()[-5000:]
    assert team.weights(started) == undisturbed
    (made,) = team.mlflow_runs(started, "pretrain")
    assert made["info"]["status"] == "FINISHED"
    # Epochs before the kill were logged once; the one that was cut off may have been logged twice.
    assert SHORT_EPOCHS <= len(team.metric_history(made, "validation/loss")) <= SHORT_EPOCHS + 1
    assert not [path for path in worktrees(team.folder) if path.name == started]


def test_a_killed_trainer_is_tried_again_and_its_run_outlives_servers_that_are_started_anew(
    team, run, prefect_server, postgres
):
    trainer = team.in_mid_training(run)
    os.kill(trainer, signal.SIGKILL)
    wait_for(lambda: not psutil.pid_exists(trainer), "the end of the trainer")
    # Prefect's delay before the second try begins; both servers and the trainer's MLflow are away when it does.
    prefect_server.stop()
    postgres.stop()
    time.sleep(20)
    postgres.start()
    prefect_server.start()


def test_a_full_disk_is_tried_again_once_there_is_room(team, undisturbed):
    team.forget_results()
    scratch = team.folder / ".fusmae" / "resume"
    scratch.mkdir(parents=True, exist_ok=True)
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(scratch)], capture_output=True
    ).returncode:
        pytest.skip("no right to mount a small disk")
    try:
        started = team.start("pretrain/pretrain", overrides=SHORT)
        trainer = team.in_mid_training(started)
        filler = scratch / "filler"
        with filler.open("wb") as file:
            file.truncate(0)
            free = shutil.disk_usage(scratch).free
            os.posix_fallocate(file.fileno(), 0, free)
        wait_for(lambda: not psutil.pid_exists(trainer), "the end of the trainer")
        filler.unlink()
        assert team.finish(started) == "COMPLETED", team.log.read_text()[-5000:]
        assert team.weights(started) == undisturbed
        assert len(team.mlflow_runs(started, "pretrain")) == 1
    finally:
        subprocess.run(["umount", str(scratch)], check=True)


def test_the_run_of_a_killed_worker_is_seen_as_dead_and_runs_again(team, run):
    team.in_mid_training(run)
    kill_with_children(team.workers["gpu"].pid)


def test_a_cancelled_run_ends_its_trainer_within_30_seconds_and_leaves_a_checkpoint_to_go_on_from(team, undisturbed):
    team.forget_results()
    started = team.start("pretrain/pretrain", overrides=SHORT)
    trainer = team.in_mid_training(started)
    team.run("prefect", "flow-run", "cancel", started)
    wait_for(lambda: not psutil.pid_exists(trainer), "the end of the trainer", seconds=40)
    assert team.finish(started) == "CANCELLED"
    (left,) = team.checkpoints()
    assert left.stat().st_size > 0
    again = team.start("pretrain/pretrain", overrides=SHORT)
    assert team.finish(again) == "COMPLETED"
    assert team.weights(again) == undisturbed
    assert len(team.mlflow_runs(again, "pretrain")) == 1
