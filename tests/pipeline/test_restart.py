"""A finetuning killed in mid-epoch goes on to the weights of an undisturbed run, bit for bit.

A killed pretraining does so in tests/team/test_drills.py, where Prefect starts it anew.
"""

import json
import os
import signal
import subprocess
import time

import pytest
import torch
import yaml

from fusmae.files import file_sha256

pytestmark = [pytest.mark.xdist_group("copies of the pipeline"), pytest.mark.timeout(900)]

# One thread: the order of a sum over several is not fixed.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
NUM_EPOCHS = 8
STEPS_AN_EPOCH = 3
STAGE = "finetune@pretrained"
REPRO = (".venv/bin/dvc", "repro", "--single-item", STAGE)


@pytest.fixture
def workspace(tmp_path, new_workspace, untouched):
    """The finished workspace once more; its finetuning is shorter and writes checkpoints in mid-epoch."""
    made = new_workspace(tmp_path / "fusmae", untouched)
    path = made.folder / "params.yaml"
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    params["finetune"] |= {"epochs": NUM_EPOCHS, "warmup_epochs": 1}
    # Three steps an epoch: a checkpoint every other step falls in mid-epoch.
    params["runtime"]["checkpoint_every_steps"] = 2
    path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    return made


def kill_in_mid_epoch(workspace):
    """Start the stage and kill its whole process group with SIGKILL in its third epoch or later."""
    process = subprocess.Popen(
        REPRO,
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
import json, mlflow
mlflow.set_tracking_uri("sqlite:///mlruns/mlflow.db")
client = mlflow.MlflowClient()
experiment = client.get_experiment_by_name("fusmae")
wanted = "attributes.run_name = 'finetune-pretrained'"
runs = client.search_runs([experiment.experiment_id], wanted, order_by=["attributes.start_time"])
print(json.dumps([len(client.get_metric_history(run.info.run_id, "validation/loss")) for run in runs]))
"""


def test_a_killed_finetuning_goes_on_to_the_weights_of_an_undisturbed_run(workspace):
    weights = workspace.folder / "models/finetune/pretrained/model.safetensors"
    kill_in_mid_epoch(workspace)
    assert not weights.exists(), "the killed run must not have finished"
    workspace.run(*REPRO, **ONE_THREAD)
    gone_on = file_sha256(weights)
    # One run more than before, and not one that began again: the epochs before the kill were logged once.
    _, epochs_logged = json.loads(workspace.python(HISTORY).splitlines()[-1])
    assert NUM_EPOCHS <= epochs_logged <= NUM_EPOCHS + 1

    workspace.run(*REPRO, "--force", **ONE_THREAD)
    assert file_sha256(weights) == gone_on
