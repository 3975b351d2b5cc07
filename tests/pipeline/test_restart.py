"""A training stage killed in mid-epoch goes on to the weights of an undisturbed run, bit for bit."""

import json
import os
import signal
import subprocess
import time

import pytest
import torch
import yaml

from fusmae.files import file_sha256

pytestmark = [pytest.mark.xdist_group("restart"), pytest.mark.timeout(900)]

# One thread: the order of a sum over several is not fixed.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
NUM_EPOCHS = 8
STEPS_AN_EPOCH = 3
WEIGHTS = {
    "pretrain": "models/pretrain/pretrained/model.safetensors",
    "finetune@pretrained": "models/finetune/pretrained/model.safetensors",
}


def shorten(workspace):
    path = workspace.folder / "params.yaml"
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    params["pretrain"] |= {"epochs": NUM_EPOCHS, "warmup_epochs": 1, "num_pictures": 1, "modality_drop": 0.3}
    params["finetune"] |= {"epochs": NUM_EPOCHS, "warmup_epochs": 1}
    # Three steps an epoch: a checkpoint every other step falls in mid-epoch.
    params["runtime"]["checkpoint_every_steps"] = 2
    path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


@pytest.fixture(scope="session")
def sharded(tmp_path_factory, new_workspace, examined):
    workspace = new_workspace(tmp_path_factory.mktemp("sharded") / "fusmae", examined)
    shorten(workspace)
    return workspace


def kill_in_mid_epoch(workspace, stage):
    """Start a stage and kill its whole process group with SIGKILL in its third epoch or later."""
    process = subprocess.Popen(
        [".venv/bin/dvc", "repro", "--single-item", stage],
        cwd=workspace.folder,
        env={**workspace.environment, **ONE_THREAD},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    started, seen = time.time(), set()
    while len(seen) < 4:
        assert process.poll() is None, "the stage ended before it could be killed"
        assert time.time() - started < 300, "no resume checkpoint appeared"
        seen |= {path.stat().st_mtime_ns for path in (workspace.folder / ".fusmae").glob("*/last.ckpt")}
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (last,) = (workspace.folder / ".fusmae").glob("*/last.ckpt")
    step = torch.load(last, weights_only=True)["global_step"]
    assert step % STEPS_AN_EPOCH, "the checkpoint to go on from must lie in mid-epoch"


HISTORY = """
import json, sys, mlflow
mlflow.set_tracking_uri("sqlite:///mlruns/mlflow.db")
client = mlflow.MlflowClient()
experiment = client.get_experiment_by_name("fusmae")
runs = client.search_runs([experiment.experiment_id], f"attributes.run_name = '{sys.argv[1]}'")
print(json.dumps([len(client.get_metric_history(run.info.run_id, "validation/loss")) for run in runs]))
"""


@pytest.mark.parametrize("stage", list(WEIGHTS))
def test_killed_stage_goes_on_to_the_weights_of_an_undisturbed_run(sharded, stage):
    if stage != "pretrain":
        sharded.run(".venv/bin/dvc", "repro", "--single-item", "pretrain", **ONE_THREAD)
    weights = sharded.folder / WEIGHTS[stage]
    kill_in_mid_epoch(sharded, stage)
    assert not weights.exists(), "the killed run must not have finished"
    sharded.run(".venv/bin/dvc", "repro", "--single-item", stage, **ONE_THREAD)
    gone_on = file_sha256(weights)
    # One run, and not one that began again: the epochs before the kill were logged once.
    epochs_logged = json.loads(sharded.python(HISTORY, stage.replace("@", "-")).splitlines()[-1])
    assert len(epochs_logged) == 1
    assert NUM_EPOCHS <= epochs_logged[0] <= NUM_EPOCHS + 1

    sharded.run(".venv/bin/dvc", "repro", "--force", "--single-item", stage, **ONE_THREAD)
    assert file_sha256(weights) == gone_on
