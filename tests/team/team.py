"""A team's set-up on real servers: a checkout, deployments, workers, and what their flow runs leave."""

import os
import re
import shutil
import signal
import subprocess
import threading
from functools import partial
from pathlib import Path

import psutil
import requests
import yaml

from tests.operations import services

wait_for = partial(services.wait_for, seconds=240)
SHORT_EPOCHS = 12
SHORT = (
    f"pretrain.epochs={SHORT_EPOCHS}",
    "pretrain.warmup_epochs=1",
    "pretrain.num_pictures=1",
    "runtime.checkpoint_every_steps=2",
)
QUICK = (
    "pretrain.epochs=3",
    "pretrain.num_pictures=1",
    "finetune.epochs=4",
    "finetune.warmup_epochs=1",
    "variants.rounds=3",
    "evaluate.bootstrap_resamples=20",
    "model.patch_px=24",
    "model.dim=32",
    "model.depth=2",
    "model.num_heads=2",
    "model.decoder_dim=32",
    "model.decoder_depth=1",
    "model.decoder_num_heads=2",
)
BUCKET = "team"
EMIT = (
    "from flows.events import emit_{0}; emit_{0}({1}); "
    "from prefect.events.worker import EventsWorker; EventsWorker.drain_all()"
)
# Not CRASHED: such a run is scheduled again.
ENDED = {"COMPLETED", "FAILED", "CANCELLED"}


class Team:
    """Starts workers and flow runs, and finds what became of them."""

    def __init__(self, workspace, servers, objects):
        self.objects = objects
        self.workspace, self.folder, self.servers = workspace, workspace.folder, servers
        clients = {k: v for k, v in servers.clients().items() if k.startswith(("MLFLOW_", "PREFECT_API"))}
        self.environment = clients | {
            "FUSMAE_WORKSPACE": str(self.folder),
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            # One thread: the order of a sum over several is not fixed.
            "OMP_NUM_THREADS": "1",
        }
        self.api = clients["PREFECT_API_URL"]
        self.auth = tuple(clients["PREFECT_API_AUTH_STRING"].split(":", 1))
        self.workers = {}
        self.is_over = threading.Event()
        self.supervisor = threading.Thread(target=self.supervise, daemon=True)
        self.log = workspace.folder.parent / "workers.log"

    def run(self, *command, check=True):
        program = f".venv/bin/{command[0]}"
        return self.workspace.run(program, *command[1:], check=check, **self.environment).stdout

    def start_worker(self, pool):
        """A worker in a session of its own, so that it can be killed with all that it started."""
        with self.log.open("ab") as log:
            worker = subprocess.Popen(
                [".venv/bin/prefect", "worker", "start", "--pool", pool, "--type", "process"],
                cwd=self.folder,
                env=self.workspace.environment | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.workers[pool] = worker
        return worker

    def supervise(self):
        """Start workers anew that end, as compose.yaml's `restart` does: Prefect's gives up on a server in trouble."""
        while not self.is_over.wait(1):
            for pool, worker in list(self.workers.items()):
                if worker.poll() is not None:
                    self.start_worker(pool)

    def stop(self):
        self.is_over.set()
        self.supervisor.join(60)
        for worker in self.workers.values():
            kill_with_children(worker.pid)
            worker.wait(60)

    def start(self, deployment, **parameters):
        """A flow run, by its id."""
        given = [f"--param={name}={yaml_list(value)}" for name, value in parameters.items()]
        printed = self.run("prefect", "deployment", "run", deployment, *given)
        return re.search(r"UUID: (\S+)", printed)[1]

    def ask(self, path, **body):
        answer = requests.request(
            "POST" if body else "GET", f"{self.api}/{path}", auth=self.auth, json=body or None, timeout=60
        )
        answer.raise_for_status()
        return answer.json()

    def state(self, run):
        return self.ask(f"flow_runs/{run}")["state"]["type"]

    def finish(self, run, seconds=600):
        """Wait for the end; the state that it ended in."""
        wait_for(lambda: self.has_ended(run), lambda: self.log.read_text()[-5000:], seconds=seconds)
        return self.state(run)

    def has_ended(self, run):
        try:
            return self.state(run) in ENDED
        except requests.RequestException:
            return False  # the server is being started anew

    def trainers(self, run):
        """Processes that pretrain in a run's worktree."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            command = process.info["cmdline"] or []
            try:
                if command[1:4] == ["-m", "fusmae", "pretrain"] and run in process.cwd():
                    found.append(process.pid)
            except psutil.Error:
                continue
        return found

    def in_mid_training(self, run):
        """Wait until a run's trainer has written a few checkpoints; its process id."""
        seen = set()

        def has_written():
            seen.update(path.stat().st_mtime_ns for path in self.checkpoints())
            return len(seen) >= 3

        wait_for(has_written, lambda: f"checkpoints of {run}:\n{self.log.read_text()[-5000:]}")
        (trainer,) = wait_for(lambda: self.trainers(run), "its trainer")
        return trainer

    def checkpoints(self):
        return list((self.folder / ".fusmae" / "resume").glob("pretrain-*/last.ckpt"))

    def locked(self, experiment):
        """Outputs by path, as the dvc.lock of an experiment has them."""
        lock = self.workspace.run("git", "show", f"{self.reference(experiment)}:dvc.lock").stdout
        stages = yaml.safe_load(lock)["stages"]
        return {out["path"]: out.get("md5") for stage in stages.values() for out in stage.get("outs", [])}

    def message(self, experiment):
        """What the commit of an experiment says."""
        return self.workspace.run("git", "log", "-1", "--format=%B", self.reference(experiment)).stdout

    def reference(self, experiment):
        """git's name of an experiment."""
        listed = self.workspace.run("git", "for-each-ref", "--format=%(refname)", "refs/exps").stdout.split()
        (name,) = [name for name in listed if name.endswith(f"/{experiment}")]
        return name

    def weights(self, run):
        """Identity of what a run's pretraining made."""
        return self.locked(f"pretrain-{run[:8]}")["models/pretrain/pretrained"]

    def mlflow_runs(self, run, name):
        """MLflow's runs of a stage that a flow run made."""
        found = self.ask_mlflow("GET", "experiments/get-by-name", params={"experiment_name": "fusmae"})
        wanted = f"tags.\"fusmae.flow_run\" = '{run}' and attributes.run_name = '{name}'"
        body = {"experiment_ids": [found["experiment"]["experiment_id"]], "filter": wanted}
        return self.ask_mlflow("POST", "runs/search", json=body).get("runs", [])

    def ask_mlflow(self, method, path, **sent):
        names = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
        url, *auth = (self.environment[name] for name in names)
        answer = requests.request(method, f"{url}/api/2.0/mlflow/{path}", auth=tuple(auth), timeout=60, **sent)
        answer.raise_for_status()
        return answer.json()

    def metric_history(self, run, metric):
        """All values of a metric of one of MLflow's runs."""
        wanted = {"run_id": run["info"]["run_id"], "metric_key": metric}
        return self.ask_mlflow("GET", "metrics/get-history", params=wanted)["metrics"]

    def forget_results(self):
        """Let the next run train, instead of finding the result of the last in the run cache, here or in the remote."""
        for kept in (self.folder / ".dvc" / "cache" / "runs").glob("*/*/*"):
            if "fusmae pretrain" in kept.read_text(encoding="utf-8"):
                shutil.rmtree(kept.parent)  # DVC fails at an empty folder
        for page in self.objects.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="fusmae/runs/"):
            for kept in page.get("Contents", []):
                self.objects.delete_object(Bucket=BUCKET, Key=kept["Key"])
        shutil.rmtree(self.folder / ".fusmae" / "resume", ignore_errors=True)


def yaml_list(value):
    return "[" + ",".join(f'"{item}"' for item in value) + "]" if isinstance(value, list | tuple) else value


def kill_with_children(pid):
    """SIGKILL for a process and all below it, at once: a host that is gone."""
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in family:
        if process.is_running():
            os.kill(process.pid, signal.SIGKILL)
    psutil.wait_procs(family, timeout=30)


def worktrees(folder):
    return [path for path in (Path(folder) / ".fusmae" / "flow-runs").glob("*") if path.is_dir()]


def runs_of(team, deployment):
    """Flow runs of a deployment by id."""
    wanted = {"name": {"any_": [deployment]}}
    return {run["id"]: run for run in team.ask("flow_runs/filter", deployments=wanted, limit=200)}
