"""Runs requests that arrive at the same time as one batch."""

import asyncio
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.serving.limits import Limits
from fusmae.serving.loaded import LoadedModel
from fusmae.serving.metrics import Metrics


@dataclass(eq=False)
class _Job:
    """One request's checked tiles, waiting for the probabilities."""

    model: LoadedModel
    modalities: tuple[str, ...]
    pixels: Mapping[str, NDArray[Any]]
    num_tiles: int
    arrived_s: float
    answer: "asyncio.Future[NDArray[np.float32]]"

    def fits(self, other: "_Job") -> bool:
        """Whether it can run in one call with the other: with the same version and the same modalities."""
        return self.model is other.model and self.modalities == other.modalities


class Batcher:
    """Gathers jobs until there are `max_batch` tiles or the first has waited `max_wait_ms`; runs them in a thread.

    The next batch gathers while one runs, so that a busy service loses no time by waiting. A job runs with the model
    that it was checked against, even if another version has replaced it meanwhile.

    Args:
        limits: batch size and waiting time.
        metrics: metrics to which each batch is added.
    """

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._max_batch = limits.max_batch
        self._max_wait_s = limits.max_wait_ms / 1000
        self._metrics = metrics
        self._waiting: deque[_Job] = deque()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batch")
        self._task: asyncio.Task[None] | None = None

    @property
    def is_running(self) -> bool:
        """Whether the task that takes jobs from the queue is running."""
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        """Begin to take jobs; call it in the event loop."""
        self._task = asyncio.create_task(self._serve())

    async def stop(self) -> None:
        """Stop taking jobs; the server has waited for those in the queue before."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._thread.shutdown()

    async def probabilities(
        self, model: LoadedModel, pixels: Mapping[str, NDArray[Any]], modalities: tuple[str, ...]
    ) -> NDArray[np.float32]:
        """Compute probabilities `[B, K]` of checked tiles.

        Args:
            model: model that the tiles were checked against.
            pixels: `[B, C, h, w]` by input name, B at most `max_batch`.
            modalities: modalities that are present, as `Session.check` returned them.
        """
        loop = asyncio.get_running_loop()
        num_tiles = len(next(iter(pixels.values())))
        job = _Job(model, modalities, pixels, num_tiles, loop.time(), loop.create_future())
        self._waiting.append(job)
        self._metrics.waiting.inc(num_tiles)
        self._arrived.set()
        return await job.answer

    async def _serve(self) -> None:
        while True:
            self._arrived.clear()
            if self._waiting:
                await self._gather()
                await self._run(self._take())
            else:
                await self._arrived.wait()

    async def _gather(self) -> None:
        """Return when the first job's batch is full or has waited long enough."""
        first = self._waiting[0]
        deadline = first.arrived_s + self._max_wait_s
        while sum(job.num_tiles for job in self._waiting if job.fits(first)) < self._max_batch:
            self._arrived.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._arrived.wait()
            except TimeoutError:
                return

    def _take(self) -> list[_Job]:
        """Take the first job, and those that fit, off the queue, in the order in which they came."""
        first = self._waiting[0]
        taken, left, num_tiles = [], [], 0
        for job in self._waiting:
            if job.fits(first) and num_tiles + job.num_tiles <= self._max_batch:
                taken.append(job)
                num_tiles += job.num_tiles
            else:
                left.append(job)
        self._waiting = deque(left)
        self._metrics.waiting.dec(num_tiles)
        return taken

    async def _run(self, jobs: list[_Job]) -> None:
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._thread, self._infer, jobs)
        except Exception as error:  # each client gets the error, and the next batch runs
            for job in jobs:
                if not job.answer.done():
                    job.answer.set_exception(error)
            return
        parts = np.split(found, np.cumsum([job.num_tiles for job in jobs])[:-1])
        for job, part in zip(jobs, parts, strict=True):
            if not job.answer.done():  # it is done if its client has disconnected
                job.answer.set_result(part)

    def _infer(self, jobs: list[_Job]) -> NDArray[np.float32]:
        first = jobs[0]
        begun = perf_counter()
        pixels = {name: np.concatenate([job.pixels[name] for job in jobs]) for name in first.pixels}
        found = first.model.session.run(pixels, first.modalities)["probabilities"]
        self._metrics.batch_tiles.observe(len(found))
        self._metrics.batch_seconds.observe(perf_counter() - begun)
        return found
