"""Turns a request's bytes into its answer: reads, checks and runs them."""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from numpy.typing import NDArray
from starlette.exceptions import HTTPException

from fusmae.errors import InputError
from fusmae.serving.answers import Health, ModelName, Prediction, RegistryHealth
from fusmae.serving.arrays import check_units, read_json, read_npz
from fusmae.serving.batching import Batcher
from fusmae.serving.limits import Limits
from fusmae.serving.loaded import LoadedModel, Watcher
from fusmae.serving.metrics import Metrics
from fusmae.serving.tile import Upload, read_tile

_NPZ_TYPES = ("application/x-npz", "application/zip", "application/octet-stream")
_Tile = tuple[dict[str, NDArray[Any]], list[str]]
_Read = Callable[[LoadedModel], _Tile]


class Service:
    """A service with one model; `make_app` adds its routes.

    Args:
        reference: reference of the model as the user gave it.
        first: the version that the reference means at the start.
        limits: bounds of the service.

    Attributes:
        metrics: counters for Prometheus.
        watcher: holder of the model that answers requests.
    """

    def __init__(self, reference: str, first: LoadedModel, limits: Limits) -> None:
        self.metrics = Metrics()
        self.watcher = Watcher(reference, first, limits.poll_s, self.metrics)
        self._batcher = Batcher(limits, self.metrics)
        self._limits = limits
        # Few threads bound the memory, since unpacked bodies are larger than packed ones.
        self._readers = ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="read")

    def start(self) -> None:
        """Begin to answer requests; call it in the event loop."""
        self._batcher.start()
        self.watcher.start()

    async def stop(self) -> None:
        """Stop answering; the server has waited for running requests before."""
        self.watcher.stop()
        await self._batcher.stop()
        self._readers.shutdown()

    def health(self) -> Health:
        """The answer to `GET /health`."""
        model, registry = self.watcher.current, self.watcher.registry
        return Health(
            is_ready=self._batcher.is_running,
            reference=self.watcher.reference,
            model=ModelName(**model.identity),
            loaded=model.loaded,
            registry=RegistryHealth(status=registry.status, error=registry.error),
        )

    async def predict_arrays(self, body: bytes, media_type: str) -> Prediction:
        """Answer a body of arrays.

        Args:
            body: content of the request, `.npz` or JSON.
            media_type: media type of the body.

        Raises:
            HTTPException: the media type is another (status 415).
            InputError: the model can't be run on these arrays.
        """
        if media_type == "application/json":
            return await self._predict(lambda model: (read_json(body, model.session.inputs), []))
        if media_type in _NPZ_TYPES:
            limit = self._limits.max_batch
            return await self._predict(lambda model: (read_npz(body, model.session.inputs, limit), []))
        raise HTTPException(415, f"Content-Type is {media_type or 'absent'}; send application/json or {_NPZ_TYPES[0]}.")

    async def predict_tile(self, files: Mapping[str, Sequence[Upload]]) -> Prediction:
        """Answer one tile's GeoTIFFs.

        Args:
            files: files by modality.

        Raises:
            FusmaeError: the model can't be run on these files.
        """
        return await self._predict(lambda model: _read_known(files, model))

    async def _predict(self, read: _Read) -> Prediction:
        model = self.watcher.current
        loop = asyncio.get_running_loop()
        pixels, modalities, warnings = await loop.run_in_executor(self._readers, self._checked, read, model)
        found = await self._batcher.probabilities(model, pixels, modalities)
        return Prediction(
            model=ModelName(**model.identity),
            modalities=list(modalities),
            classes=model.session.metadata["classes"],
            probabilities=found.tolist(),
            warnings=warnings,
        )

    def _checked(self, read: _Read, model: LoadedModel) -> tuple[dict[str, NDArray[Any]], tuple[str, ...], list[str]]:
        pixels, warnings = read(model)
        modalities = model.session.check(pixels)
        num_tiles = len(next(iter(pixels.values())))
        if not 0 < num_tiles <= self._limits.max_batch:
            raise InputError(
                "Too many tiles, or none.",
                got=num_tiles,
                expected=f"1 to {self._limits.max_batch} per request",
                hint="send several requests: concurrent ones share batches",
            )
        return pixels, modalities, warnings + check_units(pixels, model.session.inputs)


def _read_known(files: Mapping[str, Sequence[Upload]], model: LoadedModel) -> _Tile:
    known = model.session.metadata["modalities"]
    foreign = sorted(set(files) - set(known))
    if foreign:
        raise InputError(f"The model has no modality {foreign[0]}.", got=sorted(files), expected=f"some of {known}")
    return read_tile(files, model.session.inputs)
