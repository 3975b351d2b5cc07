"""Counts every request's status and time."""

from time import perf_counter
from typing import Any

from fusmae.serving.metrics import Metrics
from fusmae.serving.refusal import Message, Receive, Send


class RequestCounter:
    """ASGI middleware that counts every request, also refused ones.

    Args:
        app: application behind it.
        metrics: metrics to write to.
        routes: paths that are counted by name; all others are counted as `other`, since a client can request any path.
    """

    def __init__(self, app: Any, metrics: Metrics, routes: frozenset[str]) -> None:
        self._app = app
        self._metrics = metrics
        self._routes = routes

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
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
