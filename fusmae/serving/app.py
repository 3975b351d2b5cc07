"""The service: its routes over one model, and its start; SIGTERM or SIGINT ends it."""

import asyncio
import logging
import os
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from copy import deepcopy
from ipaddress import ip_address
from time import perf_counter
from typing import Annotated

import uvicorn
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from uvicorn.config import LOGGING_CONFIG

from fusmae.errors import FusmaeError, InputError
from fusmae.inference.devices import Device
from fusmae.inference.session import EMBEDDING, Session
from fusmae.serving.answers import (
    ARRAYS_BODY,
    DESCRIPTION,
    GEOTIFF,
    JSON,
    NPZ,
    REFUSALS,
    Embeddings,
    Health,
    ModelDescription,
    Prediction,
    PredictQuery,
    Refusal,
    answered,
    geotiff_body,
)
from fusmae.serving.arrays import Tiles, check_units, read_json, read_npz
from fusmae.serving.formats import Asked, choose_format
from fusmae.serving.limits import Admission, Limits
from fusmae.serving.loaded import LoadedModel, Watcher, find_model
from fusmae.serving.metrics import Metrics, RequestCounter
from fusmae.serving.tile import Upload, read_tile

_ROUTES = frozenset({"/predict", "/predict/geotiff", "/embed", "/embed/geotiff", "/model", "/health", "/metrics"})
_NPZ_TYPES = (NPZ, "application/zip", "application/octet-stream")
_MAX_FILES = 16
_Read = Callable[[Session], Tiles]
_log = logging.getLogger("fusmae.serving")


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

    async def predict(self, read: _Read, accept: str, *, with_probabilities: bool, is_placed: bool) -> Response:
        """What the model predicts for a request's tiles, in a format that `accept` names.

        Args:
            read: function that reads the tiles for a session.
            accept: the header `Accept`; "" for any format.
            with_probabilities: whether a map of classes comes with their probabilities.
            is_placed: whether the tile came as GeoTIFFs, so that a map of it can be one.

        Raises:
            FusmaeError: the model is an encoder, has no probabilities, or can't be run on these arrays; or the answer
                would be too large.
            HTTPException: 406, the answer can't be given in that format.
        """
        model = self.watcher.current
        task = model.session.require_task(model.file.label)
        if with_probabilities and task.value is not None:
            raise InputError(
                f"{model.file.label} predicts {task.value.title}: a value has no probabilities.",
                got="probabilities=true",
                expected="an address without it",
            )
        offers = [GEOTIFF, JSON, NPZ] if is_placed and task.is_dense else [JSON, NPZ]
        return await self._run(read, model, Asked(task, choose_format(accept, offers), with_probabilities))

    async def embed(self, read: _Read, accept: str) -> Response:
        """Embeddings for a request; see `predict`.

        Raises:
            FusmaeError: the model gives no embedding, or can't be run on these arrays.
            HTTPException: 406, see `predict`.
        """
        model = self.watcher.current
        model.session.require_embedding(model.file.label)
        return await self._run(read, model, Asked(None, choose_format(accept, [JSON, NPZ])))

    async def _run(self, read: _Read, model: LoadedModel, asked: Asked) -> Response:
        is_alone = not self._num_running
        self._num_running += 1
        try:
            loop = asyncio.get_running_loop()
            content = await loop.run_in_executor(self._threads, self._answer, read, model, asked, is_alone)
        finally:
            self._num_running -= 1
        return Response(content, media_type=asked.media_type)

    def _answer(self, read: _Read, model: LoadedModel, asked: Asked, is_alone: bool) -> bytes:
        session = model.session
        tiles = read(session)
        modalities = session.check(tiles.pixels)
        num_tiles = len(next(iter(tiles.pixels.values())))
        if not 0 < num_tiles <= self._limits.max_batch:
            raise InputError(
                "Too many tiles, or none.",
                got=num_tiles,
                expected=f"1 to {self._limits.max_batch} per request",
                hint="send the tiles in several requests",
            )
        asked.require_small(session, num_tiles, self._limits.max_answer_mb)
        warnings = [*tiles.warnings, *check_units(tiles.pixels, session.inputs)]
        begun = perf_counter()
        output = session.output if asked.task else EMBEDDING
        rows = session.run(tiles.pixels, modalities, outputs=[output], on_one_core=not is_alone)[output]
        self.metrics.tiles.observe(num_tiles)
        self.metrics.model_seconds.observe(perf_counter() - begun)
        facts = {"model": model.identity, "modalities": list(modalities), "warnings": warnings}
        return asked.written(rows, tiles.ground, facts)


def make_app(reference: str, first: LoadedModel, limits: Limits) -> FastAPI:
    """Make the application; its lifespan starts and stops the queries of the registry and the threads.

    `first` is the version that the reference means now; an alias is watched.
    """
    service = Service(reference, first, limits)
    watcher = service.watcher
    app = FastAPI(title="fusmae", description=DESCRIPTION, lifespan=service.answering, responses=REFUSALS)
    form_body = geotiff_body(first.session.metadata["modalities"])

    async def arrays_of(request: Request) -> _Read:
        body, media_type = await request.body(), _media_type(request)
        if media_type == JSON:
            return lambda session: Tiles(read_json(body, session.inputs))
        if media_type in _NPZ_TYPES:
            return lambda session: Tiles(read_npz(body, session.inputs, limits.max_batch))
        raise HTTPException(415, f"Content-Type is {media_type or 'absent'}; send application/json or {_NPZ_TYPES[0]}.")

    async def files_of(request: Request) -> _Read:
        if _media_type(request) != "multipart/form-data":
            await request.body()
            raise HTTPException(415, "Send the files as multipart/form-data, in fields named after their modality.")
        files: dict[str, list[Upload]] = defaultdict(list)
        async with request.form(max_files=_MAX_FILES, max_fields=0) as form:
            for modality, file in form.multi_items():
                if not isinstance(file, str):
                    files[modality].append(Upload(file.filename or modality, await file.read()))
        return lambda session: read_tile(files, session.inputs, session.groups)

    def accepted(request: Request) -> str:
        return request.headers.get("accept", "")

    predicted, embedded = answered("What the model predicts."), answered("The embeddings.")
    mapped = answered("What the model predicts; by default a GeoTIFF where that is a map.", is_of_files=True)

    @app.post(
        "/predict",
        openapi_extra=ARRAYS_BODY,
        response_model=Prediction,
        responses=predicted,
        summary="What the model predicts for tiles as arrays",
    )
    async def predict(request: Request, query: Annotated[PredictQuery, Query()]) -> Response:
        read, accept = await arrays_of(request), accepted(request)
        return await service.predict(read, accept, with_probabilities=query.probabilities, is_placed=False)

    @app.post(
        "/predict/geotiff",
        openapi_extra=form_body,
        response_model=Prediction,
        responses=mapped,
        summary="What the model predicts for one tile as GeoTIFFs",
    )
    async def predict_geotiff(request: Request, query: Annotated[PredictQuery, Query()]) -> Response:
        read, accept = await files_of(request), accepted(request)
        return await service.predict(read, accept, with_probabilities=query.probabilities, is_placed=True)

    @app.post(
        "/embed",
        openapi_extra=ARRAYS_BODY,
        response_model=Embeddings,
        responses=embedded,
        summary="Embeddings of tiles as arrays",
    )
    async def embed(request: Request) -> Response:
        return await service.embed(await arrays_of(request), accepted(request))

    @app.post(
        "/embed/geotiff",
        openapi_extra=form_body,
        response_model=Embeddings,
        responses=embedded,
        summary="Embedding of one tile as GeoTIFFs",
    )
    async def embed_geotiff(request: Request) -> Response:
        return await service.embed(await files_of(request), accepted(request))

    @app.get("/model", summary="Inputs that the model takes")
    async def model() -> ModelDescription:
        return watcher.current.description

    @app.get("/health", summary="Whether the service is ready: 200 or 503", responses={503: {"model": Health}})
    async def health(response: Response) -> Health:
        is_ready, model, registry = service.is_ready, watcher.current, watcher.registry
        response.status_code = 200 if is_ready else 503
        return Health(
            is_ready=is_ready,
            reference=reference,
            model=model.identity,
            loaded=model.loaded,
            device=model.session.device,
            registry=registry,
        )

    @app.get("/metrics", summary="For Prometheus", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(service.metrics.text(), headers={"content-type": CONTENT_TYPE_LATEST})

    for kind in (FusmaeError, RequestValidationError, HTTPException, ClientDisconnect, Exception):
        app.add_exception_handler(kind, _on_error)
    app.add_middleware(Admission, limits=limits, metrics=service.metrics)
    app.add_middleware(RequestCounter, metrics=service.metrics, routes=_ROUTES)
    return app


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _on_error(_: Request, error: Exception) -> Response:
    headers: Mapping[str, str] | None = None
    match error:
        case FusmaeError():
            status, kind, text = 422, type(error).__name__, str(error)
        case RequestValidationError():
            first, expected = error.errors()[0], "probabilities=true, probabilities=false, or nothing"
            got = f"{first['loc'][-1]}={first['input']}"
            status, kind = 422, "RequestError"
            text = str(InputError(f"The query can't be used: {first['msg']}.", got=got, expected=expected))
        case HTTPException():
            status, kind, text, headers = error.status_code, "RequestError", str(error.detail), error.headers
        case ClientDisconnect():
            status, kind, text = 400, "ClientGone", "The client closed the connection before its body was complete."
        case _:
            status, kind, text = 500, "ServiceError", "The service failed; the reason is in its log."
            headers = {"connection": "close"}  # the server closes it after an unexpected error
    return JSONResponse(Refusal(error=kind, text=text).model_dump(), status, headers)


def serve(model: str, host: str, port: int, limits: Limits, device: Device = "auto") -> None:
    """Load the model, then answer requests until SIGTERM or SIGINT; requests in progress are finished first.

    The model is an alias, a version or an ONNX file. Port 0 is any free one, which the log names.

    Raises:
        RegistryError: there is no such model.
        ConfigError: the device can't be used.
        ExportError: the file was not exported by this project.
        FusmaeError: the address can't be listened on.
    """
    first = find_model(model, device)
    logs = deepcopy(LOGGING_CONFIG)
    logs["loggers"]["fusmae.serving"] = {"handlers": ["default"], "level": "INFO", "propagate": False}
    config = uvicorn.Config(
        make_app(model, first, limits), log_config=logs, access_log=False, timeout_graceful_shutdown=limits.stop_s
    )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        raise FusmaeError(
            f"{host}:{port} can't be listened on: {error}", hint="name another --port (0 takes any free one) or --host"
        ) from error
    url = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
    _log.info(
        "%s answers on %s, on the device %s, sha256 %s", first.file.label, url, first.session.device, first.file.sha256
    )
    if not ip_address(listening.getsockname()[0]).is_loopback:
        _log.warning("%s is open to others, and the service asks for no password: put a proxy before it", host)
    uvicorn.Server(config).run(sockets=[listening])
