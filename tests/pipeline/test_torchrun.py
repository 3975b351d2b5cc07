"""The stage itself under torchrun, as dvc.yaml starts it: one MLflow run, and one set of outputs."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from mlflow import MlflowClient

from fusmae.data.statistics import write_statistics
from fusmae.data.verdict import write_verdict
from fusmae.training.checkpoint import load_checkpoint

pytestmark = pytest.mark.xdist_group("torchrun")

ROOT = Path(__file__).parents[2]
NUM_EPOCHS = 3
LAUNCH = "torchrun --standalone --nproc-per-node 2 --no-python"
BY_HAND = "torchrun --standalone --nproc-per-node 2 -m fusmae"
PRETRAIN = (
    "pretrain --shards {shards} --verdict verdict.json --statistics statistics.json"
    " --out models --pictures pictures --run-file run.json"
)
# Tells the stage to end at a step, as a scheduler does: it signals torchrun, or the one process there is.
CUT = """
import os, signal, sys, time
from lightning.pytorch.callbacks import Callback
import fusmae.training.trainer as trainer
from fusmae.cli import main
from fusmae.training.trainer import StopTogether, build_trainer

step, is_alone = int(sys.argv[1]), "TORCHELASTIC_RUN_ID" not in os.environ

class Cut(Callback):
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_step == step and trainer.is_global_zero:
            (stop,) = (made for made in trainer.callbacks if isinstance(made, StopTogether))
            os.kill(os.getpid() if is_alone else os.getppid(), signal.SIGTERM)
            while not (is_alone or stop._is_told):
                time.sleep(0.01)

def build(*arguments):
    trainer = build_trainer(*arguments)
    trainer.callbacks.append(Cut())
    return trainer

trainer.build_trainer = build
main(sys.argv[2:])
"""


@pytest.fixture
def make_workspace(tmp_path, shards, statistics, modalities):
    """Makes a folder with all that stage pretrain reads."""

    def make(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        params = yaml.safe_load((ROOT / "params.yaml").read_text())
        params["data"] |= {"tile_m": 240, "modalities": {key: item.model_dump() for key, item in modalities.items()}}
        params["model"] |= {"patch_px": 8, "dim": 16, "depth": 3, "num_heads": 2, "decoder_dim": 16}
        params["model"] |= {"decoder_depth": 1, "decoder_num_heads": 2}
        params["pretrain"] |= {"epochs": NUM_EPOCHS, "batch_size": 4, "base_lr": 0.1, "warmup_epochs": 1}
        params["pretrain"] |= {"modality_drop": 0.3, "num_pictures": 1}
        params["runtime"] |= {"accelerator": "cpu", "checkpoint_every_steps": 1000}
        (folder / "params.yaml").write_text(json.dumps(params))
        (folder / "cut.py").write_text(CUT)
        write_verdict(folder / "verdict.json", shards)
        write_statistics(folder / "statistics.json", statistics)
        return folder

    return make


@pytest.fixture
def pretrain(shards):
    """Runs stage pretrain in a folder, by the command of dvc.yaml or another; `cut_at` tells it to end at that step."""
    (train,) = (item["train"] for item in yaml.safe_load((ROOT / "dvc.yaml").read_text())["vars"] if "train" in item)

    def run(
        folder: Path, *, command: str = train, launch: str = "", cut_at: int | None = None
    ) -> "subprocess.CompletedProcess[str]":
        command = f"{command} {PRETRAIN.format(shards=shlex.quote(str(shards)))}"
        if cut_at is not None:
            command = command.replace("-m fusmae", f"cut.py {cut_at}")
        ours = ("MLFLOW", "FUSMAE")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        environment |= {
            "OMP_NUM_THREADS": "1",
            "FUSMAE_LAUNCH": launch,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        return subprocess.run(
            ["/bin/sh", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
        )

    return run


def only_run(folder: Path):
    """The one MLflow run, with its curves by name: epoch → loss."""
    client = MlflowClient(f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("fusmae")
    (run,) = client.search_runs([experiment.experiment_id])
    names = [name for name in run.data.metrics if "/loss" in name]
    epochs = {point.step: point.value for point in client.get_metric_history(run.info.run_id, "epoch")}
    curves = {
        name: {epochs[point.step]: point.value for point in client.get_metric_history(run.info.run_id, name)}
        for name in names
    }
    return run, curves


def written(folder: Path) -> set[str]:
    """What the stage left in a folder, without MLflow's own."""
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {name for name in files if not name.startswith(("mlruns/", ".fusmae/matplotlib/"))}


def test_the_stage_does_the_same_with_one_process_as_from_two_to_one_and_back(make_workspace, pretrain):
    one, cut = (make_workspace(name) for name in ("one", "cut"))
    before = written(one)

    assert (done := pretrain(one)).returncode == 0, done.stderr[-4000:]
    steps = []
    for launch, cut_at in ((LAUNCH, 4), ("", 8)):
        done = pretrain(cut, launch=launch, cut_at=cut_at)
        assert done.returncode != 0
        (last,) = (cut / ".fusmae").glob("pretrain-*/last.ckpt")
        steps.append(torch.load(last, weights_only=True)["global_step"])
        assert written(cut) - before <= {str(path.relative_to(cut)) for path in (cut / ".fusmae").rglob("*")}
    assert steps == [5, 9]
    assert (done := pretrain(cut, command=BY_HAND)).returncode == 0, done.stderr[-4000:]

    run, expected = only_run(one)
    assert run.data.tags["fusmae.num_processes"] == "1"
    assert len(expected["validation/loss"]) == NUM_EPOCHS
    assert set(expected) == {f"{split}/loss{key}" for split in ("train", "validation") for key in ("", "_s1", "_s2")}
    other, found = only_run(cut)
    assert (other.info.status, other.data.tags["fusmae.num_processes"]) == ("FINISHED", "2")
    # The training loss of an epoch that was cut is the mean over its last part: the validation's are whole.
    for name in ("validation/loss", "validation/loss_s1", "validation/loss_s2"):
        assert found[name] == pytest.approx(expected[name], rel=1e-5)
    assert written(cut) == written(one)
    weights, others = (load_checkpoint(folder / "models" / "pretrained").weights for folder in (one, cut))
    assert all((others[name] - tensor).abs().max() < 1e-3 for name, tensor in weights.items())
