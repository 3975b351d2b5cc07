"""Batching of requests in the service: the same service with it and without it, for some concurrent clients.

`fusmae.serving` runs requests that arrive at the same time as one batch. Without batching, each request runs alone, one
after the other on all cores (`alone`), or on one core each, as many side by side as there are cores (`side_by_side`).
Each service is a process of its own; all of them are up during the whole run, and one at a time gets requests: every
client sends one tile as `.npz`, waits for the answer and sends the next. A ratio is taken within one round, whose order
rotates; the result is the median over rounds with the smallest and the largest. Ratios above 1 are in favour of
batching: `throughput` is requests per second with batching divided by those without, `latency` the median seconds of a
request without batching divided by those with it, and `cpu` the same of the service's CPU seconds per request, which
other load on the machine changes least. `small` is an untrained ViT-S, the other model the quick start's.
"""

import asyncio
import http.client
import io
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import psutil
import typer

from benchmarks.inference import noise, save_graph, untrained
from fusmae.config.params import load_config
from fusmae.files import write_json
from fusmae.inference.session import Session
from fusmae.runs.provenance import git_state

CLIENTS = (1, 4, 16)
MODES = ("batches", "alone", "side_by_side")
# Seconds of a turn, by model: every client gets some answers.
_TURN_S = {"quick_start": 2.0, "small": 5.0}


class Server(NamedTuple):
    """A service: its port, and the id of its process."""

    port: int
    pid: int


class Turn(NamedTuple):
    """A turn of one service: requests per second, median seconds and CPU seconds of a request."""

    rate: float
    latency_s: float
    cpu_s: float


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def main(
    model: Annotated[Path, typer.Option(help="ONNX file.")] = Path("models/export/model.onnx"),
    rounds: Annotated[int, typer.Option(help="Rounds of each comparison.")] = 5,
    folder: Annotated[Path, typer.Option(help="Where the ViT-S is kept.")] = Path(".fusmae/benchmarks/serving"),
    out: Annotated[Path, typer.Option(help="JSON to write.")] = Path("benchmarks/results/serving.json"),
    mode: Annotated[str, typer.Option("--serve", hidden=True, help="Only serve, in this process.")] = "",
) -> None:
    """Compare the service with and without batching.

    Example: python -m benchmarks.serving --rounds 5
    """
    if mode:
        serve_here(model, mode)
        return
    session = Session(model, 1)
    folder.mkdir(parents=True, exist_ok=True)
    small = folder / "small.onnx"
    save_graph(untrained("small", session), session, small, load_config(Path("params.yaml")).export.opset)
    body = io.BytesIO()
    np.savez(body, **noise(session, 1))
    result = {
        name: compare(path, body.getvalue(), rounds, _TURN_S[name])
        for name, path in (("quick_start", model), ("small", small))
    }
    report = {
        "by_model": result,
        "rounds": rounds,
        "load": round(os.getloadavg()[0], 1),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        **git_state(),
    }
    write_json(out, report)


def serve_here(model: Path, mode: str) -> None:
    """Run the service on any free port; its log names it."""
    from fusmae.serving import loaded, service
    from fusmae.serving.limits import Limits
    from fusmae.serving.serve import serve

    num_cores = os.cpu_count() or 1
    if mode == "side_by_side":
        loaded.Session = partial(Session, num_threads=1)
    if mode != "batches":
        service.Batcher = lambda *_: _Unbatched(num_cores if mode == "side_by_side" else 1)
    # The defaults of `fusmae serve`.
    serve(str(model), "127.0.0.1", 0, Limits(32, 2.0, 64, 16.0, 30.0, 30))


class _Unbatched:
    """Takes the place of the service's batcher, and runs each request alone."""

    is_running = True

    def __init__(self, num_threads: int) -> None:
        self._threads = ThreadPoolExecutor(num_threads)

    def start(self) -> None:
        """Do nothing: requests run as they come."""

    async def stop(self) -> None:
        """Wait for the requests that run."""
        self._threads.shutdown()

    async def probabilities(self, model: Any, pixels: Any, modalities: Any) -> Any:
        """Run one request."""
        loop = asyncio.get_running_loop()
        return (await loop.run_in_executor(self._threads, model.session.run, pixels, modalities))["probabilities"]


def compare(model: Path, body: bytes, rounds: int, turn_s: float) -> dict[str, dict[str, Any]]:
    """Rates, latencies and ratios, by number of clients."""
    with ExitStack() as services:
        servers = {mode: services.enter_context(_service(model, mode)) for mode in MODES}
        for server in servers.values():
            _ask(server, body, 2, 0.5)
        result = {}
        for num_clients in CLIENTS:
            found: dict[str, list[Turn]] = {mode: [] for mode in MODES}
            for turn in range(rounds):
                for mode in np.roll(list(MODES), turn).tolist():
                    found[mode].append(_ask(servers[mode], body, num_clients, turn_s))
            result[str(num_clients)] = _summary(found)
            typer.echo(f"{model.name}, {num_clients} clients: {result[str(num_clients)]}")
    return result


def _summary(found: Mapping[str, list[Turn]]) -> dict[str, Any]:
    row: dict[str, Any] = {
        mode: {
            "requests_per_s": round(statistics.median(turn.rate for turn in turns), 2),
            "median_ms": round(1000 * statistics.median(turn.latency_s for turn in turns), 1),
            "cpu_ms": round(1000 * statistics.median(turn.cpu_s for turn in turns), 1),
        }
        for mode, turns in found.items()
    }
    for mode in MODES[1:]:
        pairs = list(zip(found["batches"], found[mode], strict=True))
        ratios = {
            "throughput": [batches.rate / other.rate for batches, other in pairs],
            "latency": [other.latency_s / batches.latency_s for batches, other in pairs],
            "cpu": [other.cpu_s / batches.cpu_s for batches, other in pairs],
        }
        for name, values in ratios.items():
            numbers = (statistics.median(values), min(values), max(values))
            row[mode][name] = dict(zip(("ratio", "low", "high"), (round(number, 3) for number in numbers), strict=True))
    return row


def _ask(server: Server, body: bytes, num_clients: int, seconds: float) -> Turn:
    """Send requests for some seconds; one that has begun by then is waited for."""
    taken: list[float] = []
    process = psutil.Process(server.pid)
    cpu_before, begun = process.cpu_times(), time.perf_counter()
    end = begun + seconds

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        while (start := time.perf_counter()) < end:
            connection.request("POST", "/predict", body, {"Content-Type": "application/x-npz"})
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise RuntimeError(f"the service answers {answer.status}")
            taken.append(time.perf_counter() - start)
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(num_clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cpu_s = sum(process.cpu_times()[:2]) - sum(cpu_before[:2])
    return Turn(len(taken) / (time.perf_counter() - begun), statistics.median(taken), cpu_s / len(taken))


@contextmanager
def _service(model: Path, mode: str) -> Iterator[Server]:
    """A service in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.serving", "--model", str(model), "--serve", mode]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = next(line for line in process.stderr or () if "answers on" in line)
            # Goes on reading: a full pipe would stop the service.
            threading.Thread(target=lambda: list(process.stderr or ()), daemon=True).start()
            yield Server(int(line.split("http://127.0.0.1:")[1].split(",")[0]), process.pid)
        finally:
            process.terminate()


if __name__ == "__main__":
    app()
