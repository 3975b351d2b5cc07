"""The service's metrics for Prometheus, and the middleware that counts requests."""

from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fusmae.serving.answers import ModelName

_TILES = (1, 2, 4, 8, 16, 32, 64, 128)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The metrics of one service, in a registry of their own: a process may run several services."""

    def __init__(self) -> None:
        self._registry = own = CollectorRegistry()
        self.requests = Counter("fusmae_requests", "Requests by route and status.", ["route", "status"], registry=own)
        text = "Seconds from a request's head to its answer."
        self.seconds = Histogram("fusmae_request_seconds", text, ["route"], registry=own, buckets=_SECONDS)
        self.tiles = Histogram("fusmae_request_tiles", "Tiles per request.", registry=own, buckets=_TILES)
        text = "Seconds that the model runs for a request."
        self.model_seconds = Histogram("fusmae_model_seconds", text, registry=own, buckets=_SECONDS)
        text = "Requests that are being read, wait or run."
        self.in_progress = Gauge("fusmae_requests_in_progress", text, registry=own)
        self.model = Gauge("fusmae_model_info", "Model version in use.", ["name", "version", "sha256"], registry=own)
        self.reloads = Counter("fusmae_model_reloads", "Changes of the model version since the start.", registry=own)
        text = "Queries of the registry, failed ones included."
        self.registry_queries = Counter("fusmae_registry_queries", text, registry=own)
        self.registry_up = Gauge("fusmae_registry_up", "1 if the last query of the registry succeeded.", registry=own)

    def show_model(self, model: ModelName) -> None:
        """Set which version answers."""
        self.model.clear()
        self.model.labels(model.name, model.version, model.sha256).set(1)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class RequestCounter:
    """ASGI middleware that counts every request, also refused ones.

    Paths other than `routes` are counted as `other`, since a client can request any path.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, routes: frozenset[str]) -> None:
        self._app = app
        self._metrics = metrics
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and count its status and the time to its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        route = scope["path"] if scope["path"] in self._routes else "other"
        begun = perf_counter()

        def count(status: int) -> None:
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(perf_counter() - begun)

        async def noted(message: Message) -> None:
            # It is counted before the answer is sent, so that a client that has its answer finds it in the metrics.
            if message["type"] == "http.response.start":
                count(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception:
            count(500)  # an outer layer sends the answer
            raise
