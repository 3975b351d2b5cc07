"""A Dask cluster: one started on this machine, or one that is already running elsewhere."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from fusmae.errors import ClusterError

_RETRIES = 2
_CONNECT_S = 30
# Each job contains its pairs: submitting all jobs of a large dataset at once would fill the scheduler's memory.
_JOBS_A_THREAD = 3

Run = Callable[..., Iterator[Any]]
"""A `map` that applies a function to many items in other processes."""


@contextmanager
def open_cluster(scheduler: str, num_workers: int) -> Iterator[Run]:
    """Connect to a cluster, or start one on this machine for as long as the block lasts; yield `_map` on it.

    `scheduler` is the address of a running one, like "tcp://10.0.0.1:8786"; "" starts a cluster on this machine, with
    `num_workers` worker processes, 0 for one per core.

    Raises:
        ClusterError: the scheduler does not answer, or the cluster has no worker.
    """
    import dask
    from dask.system import CPU_COUNT  # number of cores that a container or a job scheduler allows this process
    from distributed import Client, LocalCluster

    logging.getLogger("distributed").setLevel(logging.ERROR)
    num_workers = num_workers or CPU_COUNT
    local = {
        "n_workers": num_workers,
        "threads_per_worker": 1,
        "host": "127.0.0.1",
        "dashboard_address": "127.0.0.1:0",  # any free port: another cluster may use the default one
        # Encrypted with its own certificate, so that other users of a shared machine can't send it work.
        "security": True,
        "silence_logs": logging.ERROR,
    }
    with ExitStack() as stack:
        stack.enter_context(dask.config.set({"temporary-directory": str(Path.cwd() / ".fusmae" / "dask")}))
        address = scheduler or stack.enter_context(LocalCluster(**local))
        try:
            client = stack.enter_context(Client(address, timeout=_CONNECT_S, set_as_default=False))
        except OSError as error:
            raise ClusterError(
                f"The Dask scheduler at {scheduler} does not answer: {error}",
                expected="an address like tcp://10.0.0.1:8786",
                hint='start it with `dask scheduler`, or set runtime.scheduler: "" to use this machine',
            ) from error
        try:
            client.wait_for_workers(1, timeout=_CONNECT_S)
        except TimeoutError as error:
            raise ClusterError(
                f"The Dask cluster at {address} has no worker.",
                got="0 workers",
                expected="at least 1",
                hint=f"start some where this folder is seen: `dask worker {address}`",
            ) from error
        try:
            yield partial(_map, client)
        finally:
            if not scheduler:
                # Closing fails while a dead worker is being restarted, and that error would hide why it died.
                with suppress(TimeoutError):
                    client.wait_for_workers(num_workers, timeout=_CONNECT_S)


def _map(client: Any, function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
    """Results in the order of the items; a job is tried again if it failed or its worker died.

    Every worker must be able to import the function by its name. Items are sent to the workers, one per job.

    Raises:
        ClusterError: workers died under the same job again and again.
        Exception: the error of the function's last try.
    """
    from distributed import KilledWorker, as_completed
    from rich.console import Console
    from rich.progress import track

    waiting = iter(enumerate(items))
    at_a_time = max(sum(client.nthreads().values()), 1) * _JOBS_A_THREAD
    numbers: dict[Any, int] = {}
    results: dict[int, Any] = {}
    running = as_completed(loop=client.loop)

    def submit(count: int) -> None:
        for number, item in islice(waiting, count):
            future = client.submit(function, item, pure=False, retries=_RETRIES)
            numbers[future] = number
            running.add(future)

    submit(at_a_time)
    name, console = getattr(function, "__name__", "jobs"), Console(stderr=True)
    for future in track(running, name, total=len(items), console=console, transient=True):
        try:
            results[numbers.pop(future)] = future.result()
        except KilledWorker as error:
            raise ClusterError(
                "A worker died under the same job again and again.",
                got=error,
                expected="workers that live to the end of a job",
                hint="see the workers' logs; out of memory: set a lower data.shard_pairs or runtime.num_dask_workers",
            ) from error
        submit(1)
    return (results[number] for number in range(len(items)))
