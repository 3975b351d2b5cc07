"""The cost of OpenMP threads that spin while they wait, for a training beside other processes and alone.

The benchmark runs some epochs of the quick start's pretraining with as many threads as there are cores, each time in a
new process: with torch's default, and with OMP_WAIT_POLICY=passive, which every command of fusmae sets
(`fusmae.runs.environment`). Each round runs both one after the other, with and without busy processes beside them (one
per core, each a loop in Python); a ratio is taken within one round. Only ratios are meaningful. `same_bits`: whether
all trained weights are equal to the last bit.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import command_line as cli
from fusmae.files import write_json

POLICIES = {"spinning": {}, "passive": {"OMP_WAIT_POLICY": "passive"}}


def main(
    rounds: cli.Rounds = 3,
    epochs: Annotated[int, typer.Option(help="Epochs of pretraining in each.")] = 2,
    data: Annotated[Path, typer.Option(help="Folder with shards and statistics.json.")] = Path("data"),
    out: cli.Out = cli.RESULTS / "threads.json",
    train: Annotated[bool, typer.Option("--train", hidden=True, help="Only train, in this process.")] = False,
) -> None:
    """Measure both ways of waiting.

    Example: python -m benchmarks.threads --rounds 3
    """
    if train:
        train_here(epochs, data)
        return
    num_cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    result: dict[str, Any] = {}
    weights = set()
    for place, num_busy in (("busy", num_cores), ("alone", 0)):
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in POLICIES}
        for _ in range(rounds):
            for name, policy in POLICIES.items():
                with _busy(num_busy):
                    found[name].append(_measured(policy, num_cores, epochs, data))
        weights |= {run["weights"] for runs in found.values() for run in runs}
        for key in ("seconds", "cpu_seconds"):
            pairs = zip(*(found[name] for name in POLICIES), strict=True)
            ratios = [round(spinning[key] / passive[key], 2) for spinning, passive in pairs]
            result[f"{place}_{key}_ratio"], result[f"{place}_{key}_ratios"] = statistics.median(ratios), ratios
            for name, runs in found.items():
                result[f"{place}_{key}_{name}"] = round(statistics.median(run[key] for run in runs), 1)
    result |= {
        "same_bits": len(weights) == 1,
        "rounds": rounds,
        "epochs": epochs,
        "threads": num_cores,
        "load_before": round(load, 1),
        **cli.measured_on(),
    }
    write_json(out, result)
    for name, value in result.items():
        typer.echo(f"{name}: {value}")


def train_here(epochs: int, data: Path) -> None:
    """Train in this process; print seconds, CPU seconds and the checksum of the weights as JSON."""
    from hashlib import sha256

    from fusmae.config.params import load_config
    from fusmae.data.datamodule import Draws, PairDataModule
    from fusmae.data.statistics import read_statistics
    from fusmae.models.preprocess import Preprocessing
    from fusmae.training.reconstruction import start_pretraining
    from fusmae.training.trainer import build_trainer, fit

    config = load_config(Path("params.yaml"))
    section = config.pretrain
    num_patches = config.model.num_patches(config.data.tile_px)
    draws = Draws(
        config.seed,
        tuple(config.data.modalities),
        num_patches,
        section.modality_drop,
        augment=section.augment.model_dump(),
    )
    pairs = PairDataModule(data / "shards", batch_size=section.batch_size, draws=draws, num_workers=0)
    inputs, known = pairs.reader("train").inputs, read_statistics(data / "statistics.json")
    module, _ = start_pretraining(config.model, Preprocessing(inputs=inputs, statistics=known), section, config.seed)
    runtime = config.runtime.model_copy(update={"accelerator": "cpu", "checkpoint_every_steps": 1_000_000})
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(runtime, epochs, config.seed, Path(folder))
        began, before = time.perf_counter(), time.process_time()
        weights = fit(trainer, module, pairs)
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - before
    digest = sha256()
    for tensor in weights.values():
        digest.update(tensor.numpy().tobytes())
    found = {"seconds": seconds, "cpu_seconds": cpu_seconds, "weights": digest.hexdigest()}
    sys.stdout.write(f"\n{json.dumps(found)}\n")


def _measured(policy: dict[str, str], num_threads: int, epochs: int, data: Path) -> dict[str, Any]:
    kept = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    command = [sys.executable, "-m", "benchmarks.threads", "--train", f"--epochs={epochs}", f"--data={data}"]
    done = subprocess.run(
        command, env={**kept, "OMP_NUM_THREADS": str(num_threads), **policy}, stdout=subprocess.PIPE, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@contextmanager
def _busy(count: int) -> Iterator[None]:
    """Run `count` processes that only keep a core busy."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


if __name__ == "__main__":
    cli.run_main(main)
