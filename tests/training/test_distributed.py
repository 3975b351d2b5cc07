"""Two real processes, started by torchrun, train as one does with the same batch."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from fusmae.config.task import Task
from fusmae.models.preprocess import Preprocessing
from fusmae.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tests.sections import architecture_of

pytestmark = pytest.mark.xdist_group("distributed")

JOBS = Path(__file__).with_name("distributed_jobs.py")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
NUM_STEPS = 12
# float32 sums of another order
CURVE = {"rel": 1e-5}
# A parameter whose gradient is nothing but rounding moves by Adam's whole step, 1.6e-3, in either direction.
WEIGHTS_ATOL = 1e-3
PAIRS = {
    f"{kind}-{way}": (f"{kind}-alone", f"{kind}-{way}") for kind in ("pretrain", "finetune") for way in ("ddp", "fsdp")
}
# All pairs of a batch are one another's negatives, on whichever process they are.
CONTRAST = {"contrast-ddp": ("contrast-alone", "contrast-ddp")}
TRAINED = PAIRS | CONTRAST


def run_jobs(folder: Path, *jobs: dict, alone: bool = False) -> "subprocess.CompletedProcess[str]":
    launcher = [sys.executable] if alone else TORCHRUN
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [*launcher, str(JOBS), str(folder), json.dumps(jobs)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, shards, inputs, statistics, classes):
    folder = tmp_path_factory.mktemp("distributed")
    preprocessing = Preprocessing(inputs=inputs, statistics=statistics)
    setting = {
        "architecture": architecture_of(preprocessing, depth=3).model_dump(mode="json"),
        "preprocessing": preprocessing.model_dump(mode="json"),
        "shards": str(shards),
        "num_classes": len(classes),
    }
    (folder / "setting.json").write_text(json.dumps(setting))
    return folder


@pytest.fixture(scope="module")
def results(folder):
    """What became of each job, by its name and rank."""
    begun = {"scratch": "switched", "how": "cut"}
    alone = [{"name": f"{kind}-alone", "kind": kind} for kind in ("pretrain", "finetune", "contrast")]
    shared = [
        {"name": f"{kind}-{way}", "kind": kind, "strategy": way}
        for kind in ("pretrain", "finetune")
        for way in ("ddp", "fsdp")
    ]
    for is_alone, jobs in (
        (True, [*alone, {"name": "switched-1", "step": 4, **begun}, {"name": "uneven-1", "scratch": "uneven/0"}]),
        (
            False,
            [
                *shared,
                {"name": "contrast-ddp", "kind": "contrast"},
                {"name": "switched-2", "strategy": "fsdp", "step": 7, **begun},
                {"name": "told", "step": 5, "rank": 1, "how": "tell"},
                {"name": "uneven", "own_scratch": True},
            ],
        ),
        (True, [{"name": "switched-3", "scratch": "switched"}]),
    ):
        done = run_jobs(folder, *jobs, alone=is_alone)
        assert done.returncode == 0, done.stderr[-4000:]
    return {path.stem: torch.load(path) for path in folder.glob("*.pt")}


@pytest.mark.parametrize("pair", TRAINED)
def test_two_processes_have_the_loss_of_one_at_every_step(results, pair):
    """With augmentation, masks, modality drop and, in finetuning, drop path: every draw is the pair's."""
    one, two = (results[f"{name}-0"] for name in TRAINED[pair])
    assert list(two["train"]) == list(range(1, NUM_STEPS + 1))
    assert two["train"] == pytest.approx(one["train"], **CURVE)
    assert len(set(one["train"].values())) == NUM_STEPS


@pytest.mark.parametrize("pair", PAIRS)
def test_validation_loss_of_two_processes_counts_each_of_five_pairs_once(results, pair):
    one, two = PAIRS[pair]
    expected = results[f"{one}-0"]["validation"]
    assert len(expected) == 3
    assert results[f"{two}-0"]["validation"] == pytest.approx(expected, **CURVE)
    assert results[f"{two}-1"]["validation"] == results[f"{two}-0"]["validation"]


def test_the_contrastive_term_is_validated_where_processes_have_unequal_pairs(results):
    """Five pairs: three on one process and two on the other, each compared with its own."""
    for rank in (0, 1):
        found = results[f"contrast-ddp-{rank}"]
        assert found["ended"] == "done"
        assert list(found["validation"]) == [0, 1, 2]


def with_gradients(weights):
    """All but the biases of keys, which a softmax takes no notice of."""
    return {
        name: tensor.reshape(3, -1)[::2] if name.endswith("qkv.bias") else tensor for name, tensor in weights.items()
    }


def assert_near(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(
            found[name], tensor, rtol=0, atol=WEIGHTS_ATOL, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("pair", TRAINED)
def test_two_processes_end_with_nearly_the_weights_of_one(results, pair):
    one, two = (with_gradients(results[f"{name}-0"]["weights"]) for name in TRAINED[pair])
    assert_near(two, one)


def test_a_shared_out_model_is_published_whole_by_the_first_process(results, architecture, preprocessing, tmp_path):
    weights = results["pretrain-fsdp-0"]["weights"]
    assert results["pretrain-fsdp-1"]["weights"] == {}
    save_checkpoint(tmp_path / "out", Checkpoint(architecture, preprocessing, Task(), {}, weights))
    kept = load_checkpoint(tmp_path / "out").weights
    assert all(torch.equal(kept[name], tensor) for name, tensor in weights.items())


def test_a_run_goes_on_from_one_process_to_two_that_share_the_model_out_and_back(results):
    expected, parts = results["pretrain-alone-0"], [results[f"switched-{part}-0"] for part in (1, 2, 3)]
    assert [part["ended"] for part in parts] == ["CutError", "CutError", "done"]
    # A checkpoint each third step.
    assert [list(part["train"]) for part in parts] == [[1, 2, 3, 4], [4, 5, 6, 7], [7, 8, 9, 10, 11, 12]]
    for part in parts:
        for curve in ("train", "validation"):
            assert part[curve] == pytest.approx({key: expected[curve][key] for key in part[curve]}, **CURVE)
    assert_near(parts[-1]["weights"], expected["weights"])


def test_a_signal_to_one_process_ends_all_after_the_same_batch_with_a_checkpoint(results, folder):
    assert [results[f"told-{rank}"]["ended"] for rank in (0, 1)] == ["SIGTERMException"] * 2
    assert [results[f"told-{rank}"]["step"] for rank in (0, 1)] == [6, 6]
    assert torch.load(folder / "told" / "last.ckpt", weights_only=True)["global_step"] == 6


def test_processes_of_which_only_some_see_the_checkpoint_refuse_to_train(results):
    for rank, here in enumerate(("one here", "none here")):
        text = results[f"uneven-{rank}"]["ended"]
        assert "Some processes see the run's resume checkpoint and others don't." in text
        assert here in text


def test_an_error_of_one_process_ends_all_and_keeps_the_last_good_checkpoint(folder):
    begun = time.monotonic()
    done = run_jobs(folder, {"name": "failed", "step": 4, "rank": 0, "how": "fail"})
    assert done.returncode != 0
    assert "Rank 0 can't go on." in done.stderr
    assert time.monotonic() - begun < 120
    assert torch.load(folder / "failed" / "last.ckpt", weights_only=True)["global_step"] == 3
    assert processes_of(folder) == []


def test_processes_whose_torchrun_was_killed_write_a_checkpoint_and_end(folder):
    done = run_jobs(folder, {"name": "orphaned", "step": 4, "rank": 0, "how": "kill torchrun"})
    assert done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 60
    while processes_of(folder):
        assert time.monotonic() < deadline, "they live on"
        time.sleep(0.2)
    assert torch.load(folder / "orphaned" / "last.ckpt", weights_only=True)["global_step"] == 5


def test_one_process_trains_alone_whatever_slurm_has_planned(
    make_reconstructor, make_data, train, tmp_path, monkeypatch
):
    planned = {"NTASKS": 2, "NNODES": 2, "JOB_ID": 7, "PROCID": 0, "LOCALID": 0, "NODEID": 0}
    for name, value in {**planned, "JOB_NAME": "train", "NODELIST": "a,b", "STEP_NODELIST": "a,b"}.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    trainer = train(make_reconstructor(), make_data(), tmp_path, epochs=2)
    assert (trainer.world_size, trainer.global_step) == (1, 8)


def processes_of(folder: Path) -> list[int]:
    """Running processes that were started with this folder."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in line.read_bytes():
                found.append(int(line.parent.name))
        except OSError:
            pass
    return found
