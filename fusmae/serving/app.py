"""The service's routes over one model, and its start; SIGTERM or SIGINT ends it."""

import logging
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from copy import deepcopy
from ipaddress import ip_address
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from uvicorn.config import LOGGING_CONFIG

from fusmae.errors import FusmaeError
from fusmae.serving.answers import (
    ARRAYS_BODY,
    DESCRIPTION,
    REFUSALS,
    Health,
    ModelDescription,
    Prediction,
    geotiff_body,
)
from fusmae.serving.limits import Admission, Limits
from fusmae.serving.loaded import LoadedModel, find_model
from fusmae.serving.metrics import RequestCounter
from fusmae.serving.refusal import Refusal
from fusmae.serving.service import Service
from fusmae.serving.tile import Upload

_ROUTES = frozenset({"/predict", "/predict/geotiff", "/model", "/health", "/metrics"})
_MAX_FILES = 16
_log = logging.getLogger("fusmae.serving")


def make_app(reference: str, first: LoadedModel, limits: Limits) -> FastAPI:
    """Make the application; its lifespan starts and stops the queries of the registry and the threads.

    Args:
        reference: reference of the model as the user gave it; an alias is watched.
        first: the version that the reference means now.
        limits: bounds of the service.
    """
    service = Service(reference, first, limits)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.stop()

    app = FastAPI(title="fusmae", description=DESCRIPTION, lifespan=lifespan, responses=REFUSALS)
    _add_predictions(app, service)
    _add_status(app, service)
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
    app.add_middleware(Admission, limits=limits, metrics=service.metrics)
    app.add_middleware(RequestCounter, metrics=service.metrics, routes=_ROUTES)
    return app


def _add_predictions(app: FastAPI, service: Service) -> None:
    @app.post("/predict", openapi_extra=ARRAYS_BODY, summary="Tiles as arrays")
    async def predict(request: Request) -> Prediction:
        body = await request.body()
        return await service.predict_arrays(body, _media_type(request))

    form = geotiff_body(service.watcher.current.description["modalities"])

    @app.post("/predict/geotiff", openapi_extra=form, summary="One tile as GeoTIFFs")
    async def predict_geotiff(request: Request) -> Prediction:
        if _media_type(request) != "multipart/form-data":
            await request.body()
            raise HTTPException(415, "Send the files as multipart/form-data, in fields named after their modality.")
        async with request.form(max_files=_MAX_FILES, max_fields=0) as form:
            files: dict[str, list[Upload]] = {}
            for modality, file in form.multi_items():
                if not isinstance(file, str):
                    files.setdefault(modality, []).append(Upload(file.filename or modality, await file.read()))
        return await service.predict_tile(files)


def _add_status(app: FastAPI, service: Service) -> None:
    @app.get("/model", summary="Inputs that the model takes")
    async def model() -> ModelDescription:
        return ModelDescription(**service.watcher.current.description)

    @app.get("/health", summary="Whether the service is ready: 200 or 503", responses={503: {"model": Health}})
    async def health(response: Response) -> Health:
        found = service.health()
        response.status_code = 200 if found.is_ready else 503
        return found

    @app.get("/metrics", summary="For Prometheus", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(service.metrics.text(), headers={"content-type": CONTENT_TYPE_LATEST})


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _refusal(status: int, error: str, text: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse(Refusal(error=error, text=text).model_dump(), status, headers)


async def _on_mistake(_: Request, error: FusmaeError) -> Response:
    return _refusal(422, type(error).__name__, str(error))


async def _on_http(_: Request, error: HTTPException) -> Response:
    return _refusal(error.status_code, "RequestError", str(error.detail), error.headers)


async def _on_gone(_: Request, __: ClientDisconnect) -> Response:
    return _refusal(400, "ClientGone", "The client closed the connection before its body was complete.")


async def _on_failure(_: Request, __: Exception) -> Response:
    # The server closes the connection after an unexpected error.
    return _refusal(500, "ServiceError", "The service failed; the reason is in its log.", {"connection": "close"})


_HANDLERS: dict[type[Exception], Any] = {
    FusmaeError: _on_mistake,
    HTTPException: _on_http,
    ClientDisconnect: _on_gone,
    Exception: _on_failure,
}


def serve(model: str, host: str, port: int, limits: Limits) -> None:
    """Load the model, then answer requests until SIGTERM or SIGINT; requests in progress are finished first.

    Args:
        model: reference of the model: an alias, a version or an ONNX file.
        host: address to listen on.
        port: port to listen on; 0 for any free one, which the log names.
        limits: bounds of the service.

    Raises:
        RegistryError: there is no such model.
        ExportError: the file was not exported by this project.
        FusmaeError: the address can't be listened on.
    """
    first = find_model(model)
    logs = deepcopy(LOGGING_CONFIG)
    logs["loggers"]["fusmae.serving"] = {"handlers": ["default"], "level": "INFO", "propagate": False}
    config = uvicorn.Config(
        make_app(model, first, limits),
        log_config=logs,
        access_log=False,
        timeout_graceful_shutdown=limits.stop_s,
    )
    listening = _listen(host, port)
    url = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
    _log.info("%s answers on %s, sha256 %s", first.file.label, url, first.file.sha256)
    if not _is_loopback(host):
        _log.warning("%s is open to others, and the service asks for no password: put a proxy before it", host)
    uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise FusmaeError(
            f"{host}:{port} can't be listened on: {error}", hint="name another --port (0 takes any free one) or --host"
        ) from error


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
