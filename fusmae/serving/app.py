"""The service's routes over one model."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from fusmae.errors import FusmaeError
from fusmae.serving.admission import Admission
from fusmae.serving.answers import Health, ModelDescription, Prediction
from fusmae.serving.documents import ARRAYS_BODY, DESCRIPTION, GEOTIFF_BODY, REFUSALS
from fusmae.serving.limits import Limits
from fusmae.serving.loaded import LoadedModel
from fusmae.serving.measured import RequestCounter
from fusmae.serving.refusal import Refusal
from fusmae.serving.service import Service
from fusmae.serving.tile import Upload

_ROUTES = frozenset({"/predict", "/predict/geotiff", "/model", "/health", "/metrics"})
_MAX_FILES = 16


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
    _add_asking(app, service)
    _add_looking(app, service)
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
    app.add_middleware(Admission, limits=limits, metrics=service.metrics)
    app.add_middleware(RequestCounter, metrics=service.metrics, routes=_ROUTES)
    return app


def _add_asking(app: FastAPI, service: Service) -> None:
    @app.post("/predict", openapi_extra=ARRAYS_BODY, summary="Tiles as arrays")
    async def predict(request: Request) -> Prediction:
        body = await request.body()
        return await service.predict_arrays(body, _media_type(request))

    @app.post("/predict/geotiff", openapi_extra=GEOTIFF_BODY, summary="One tile as GeoTIFFs")
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


def _add_looking(app: FastAPI, service: Service) -> None:
    @app.get("/model", summary="What to send")
    async def model() -> ModelDescription:
        return ModelDescription(**service.watcher.current.description)

    @app.get("/health", summary="Alive if it answers, ready if 200", responses={503: {"model": Health}})
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
    return _refusal(400, "ClientGone", "The client went before its body was here.")


async def _on_failure(_: Request, __: Exception) -> Response:
    # The server closes the connection after an unexpected error.
    return _refusal(500, "ServiceError", "The service failed; its log says why.", {"connection": "close"})


_HANDLERS: dict[type[Exception], Any] = {
    FusmaeError: _on_mistake,
    HTTPException: _on_http,
    ClientDisconnect: _on_gone,
    Exception: _on_failure,
}
