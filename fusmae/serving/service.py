"""Turns a request's bytes into its answer: reads, checks and runs them."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any

from fastapi import FastAPI
from numpy.typing import NDArray
from starlette.exceptions import HTTPException

from fusmae.errors import InputError
from fusmae.modalities import ModalityInput
from fusmae.serving.answers import Prediction
from fusmae.serving.arrays import check_units, read_json, read_npz
from fusmae.serving.limits import Limits
from fusmae.serving.loaded import LoadedModel, Watcher
from fusmae.serving.metrics import Metrics
from fusmae.serving.tile import Upload, read_tile

_NPZ_TYPES = ("application/x-npz", "application/zip", "application/octet-stream")
# Reads a request's arrays by name, and gives warnings about them.
_Read = Callable[[Sequence[ModalityInput]], tuple[dict[str, NDArray[Any]], list[str]]]


class Service:
    """A service with one model; `make_app` adds its routes.

    Requests are answered side by side, one per core; a request that comes alone may use all cores. Running concurrent
    requests as one batch was no faster (benchmarks/results/serving.json). A request finishes with the model that it was
    checked against, even if another version has replaced it meanwhile.

    `first` is the version that the reference means at the start. `is_ready` is whether requests are answered.
    """

    def __init__(self, reference: str, first: LoadedModel, limits: Limits) -> None:
        self.metrics = Metrics()
        self.watcher = Watcher(reference, first, limits.poll_s, self.metrics)
        self.is_ready = False
        self._limits = limits
        # As few threads as cores bound the memory, too: unpacked bodies are larger than packed ones.
        self._threads = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="request")
        self._num_running = 0

    @asynccontextmanager
    async def answering(self, _: FastAPI) -> AsyncIterator[None]:
        """Answer requests until the block ends; the server has waited for running requests before."""
        self.watcher.start()
        self.is_ready = True
        yield
        self.is_ready = False
        self.watcher.stop()
        self._threads.shutdown()

    async def predict_arrays(self, body: bytes, media_type: str) -> Prediction:
        """Answer a body of arrays, `.npz` or JSON.

        Raises:
            HTTPException: the media type is another (status 415).
            InputError: the model can't be run on these arrays.
        """
        if media_type == "application/json":
            return await self._predict(lambda inputs: (read_json(body, inputs), []))
        if media_type in _NPZ_TYPES:
            return await self._predict(lambda inputs: (read_npz(body, inputs, self._limits.max_batch), []))
        raise HTTPException(415, f"Content-Type is {media_type or 'absent'}; send application/json or {_NPZ_TYPES[0]}.")

    async def predict_tile(self, files: Mapping[str, Sequence[Upload]]) -> Prediction:
        """Answer one tile's GeoTIFFs, by modality.

        Raises:
            FusmaeError: the model can't be run on these files.
        """
        return await self._predict(lambda inputs: read_tile(files, inputs))

    async def _predict(self, read: _Read) -> Prediction:
        is_alone = not self._num_running
        self._num_running += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, self._answer, read, self.watcher.current, is_alone)
        finally:
            self._num_running -= 1

    def _answer(self, read: _Read, model: LoadedModel, is_alone: bool) -> Prediction:
        session = model.session
        pixels, warnings = read(session.inputs)
        modalities = session.check(pixels)
        num_tiles = len(next(iter(pixels.values())))
        if not 0 < num_tiles <= self._limits.max_batch:
            raise InputError(
                "Too many tiles, or none.",
                got=num_tiles,
                expected=f"1 to {self._limits.max_batch} per request",
                hint="send the tiles in several requests",
            )
        warnings = warnings + check_units(pixels, session.inputs)
        begun = perf_counter()
        probabilities = session.run(pixels, modalities, on_one_core=not is_alone)["probabilities"]
        self.metrics.tiles.observe(num_tiles)
        self.metrics.model_seconds.observe(perf_counter() - begun)
        return Prediction(
            model=model.identity,
            modalities=list(modalities),
            classes=session.metadata["classes"],
            probabilities=probabilities.tolist(),
            warnings=warnings,
        )
