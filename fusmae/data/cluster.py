"""A Dask cluster: one started on this machine, or one that is already running elsewhere."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from fusmae.errors import ClusterError

T = TypeVar("T")
R = TypeVar("R")

_RETRIES = 2
_CONNECT_S = 30
# Each job contains its pairs: submitting all jobs of a large dataset at once would fill the scheduler's memory.
_JOBS_A_THREAD = 3


class Cluster:
    """Applies a function to many items in other processes."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def map(self, function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        """Results in the order of the items; a job is tried again if it failed or its worker died.

        Args:
            function: function that every worker can import by name.
            items: arguments of the function, one per job; they are sent to the workers.

        Raises:
            ClusterError: workers died under the same job again and again.
            Exception: the error of the function's last try.
        """
        from distributed import as_completed
        from rich.console import Console
        from rich.progress import Progress

        waiting = iter(enumerate(items))
        at_a_time = max(sum(self._client.nthreads().values()), 1) * _JOBS_A_THREAD
        numbers: dict[Any, int] = {}
        results: dict[int, R] = {}
        running = as_completed(loop=self._client.loop)

        def submit(count: int) -> None:
            for number, item in islice(waiting, count):
                future = self._client.submit(function, item, pure=False, retries=_RETRIES)
                numbers[future] = number
                running.add(future)

        with Progress(console=Console(stderr=True), transient=True) as progress:
            shown = progress.add_task(getattr(function, "__name__", "jobs"), total=len(items))
            submit(at_a_time)
            for future in running:
                results[numbers.pop(future)] = _result_of(future)
                progress.advance(shown)
                submit(1)
        return (results[number] for number in range(len(items)))


def _result_of(future: Any) -> Any:
    from distributed import KilledWorker

    try:
        return future.result()
    except KilledWorker as error:
        raise ClusterError(
            "A worker died under the same job again and again.",
            got=error,
            expected="workers that live to the end of a job",
            hint="see the workers' logs; out of memory: set a lower data.shard_pairs or runtime.num_dask_workers",
        ) from error


@contextmanager
def open_cluster(scheduler: str, num_workers: int) -> Iterator[Cluster]:
    """Connect to a cluster, or start one on this machine for as long as the block lasts.

    Args:
        scheduler: address of a running scheduler, like "tcp://10.0.0.1:8786"; "" starts a cluster on this machine.
        num_workers: number of worker processes to start on this machine; 0 means one per core.

    Raises:
        ClusterError: the scheduler does not answer, or the cluster has no worker.
    """
    import dask
    from dask.system import CPU_COUNT  # number of cores that a container or a job scheduler allows this process
    from distributed import Client

    logging.getLogger("distributed").setLevel(logging.ERROR)
    settings = {"temporary-directory": str(Path.cwd() / ".fusmae" / "dask")}
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(settings))
        num_workers = num_workers or CPU_COUNT
        address = scheduler or stack.enter_context(_local_cluster(num_workers))
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
            yield Cluster(client)
        finally:
            if not scheduler:
                # Closing fails while a dead worker is being restarted, and that error would hide why it died.
                with suppress(TimeoutError):
                    client.wait_for_workers(num_workers, timeout=_CONNECT_S)


def _local_cluster(num_workers: int) -> Any:
    from distributed import LocalCluster

    # Encrypted with its own certificate, so that other users of a shared machine can't send it work.
    return LocalCluster(
        n_workers=num_workers,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",  # any free port: another cluster may use the default one
        security=True,
        silence_logs=logging.ERROR,
    )
