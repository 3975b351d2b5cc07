"""Limits of the service: how much it does at once, and the middleware that refuses more."""

import asyncio
from dataclasses import dataclass
from typing import Any

from fusmae.serving.metrics import Metrics
from fusmae.serving.refusal import Message, Receive, Refusal, Send, refuse

_BODY_S = 60.0
"""Longest time for a request's body to arrive, in seconds: a slow client occupies a place that others need."""


@dataclass(frozen=True)
class Limits:
    """Bounds of one service; memory is at most about `max_requests` times `max_body_mb`.

    Attributes:
        max_batch: maximum number of tiles in one request.
        max_requests: maximum number of requests in progress; further ones get status 503.
        max_body_mb: maximum size of a request's body in MB (10^6 bytes).
        poll_s: seconds between two queries of the alias.
        stop_s: seconds that requests have to finish when the service stops.
    """

    max_batch: int
    max_requests: int
    max_body_mb: float
    poll_s: float
    stop_s: int

    @property
    def max_body_bytes(self) -> int:
        """Maximum size of a request's body in bytes."""
        return int(self.max_body_mb * 1e6)


class _RefusedError(Exception):
    """Raised where the body is read, and answered in `Admission.__call__`."""

    def __init__(self, status: int, refusal: Refusal) -> None:
        super().__init__(refusal.error)
        self.status = status
        self.refusal = refusal


class Admission:
    """ASGI middleware before everything that reads a body.

    If too many requests are in progress, a request is refused with 503 before its body is read. A body that is too
    large is refused with 413, by its stated length before it is read, or else as soon as it becomes too large. A body
    that arrives too slowly is refused with 408.

    Args:
        app: application behind it.
        limits: bounds on the number of requests and the size of bodies.
        metrics: metrics to which the number of requests in progress is written.
    """

    def __init__(self, app: Any, limits: Limits, metrics: Metrics) -> None:
        self._app = app
        self._limits = limits
        self._metrics = metrics
        self._in_progress = 0

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Admit a request or refuse it; every request other than POST is admitted."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
        elif _stated_length(scope) > self._limits.max_body_bytes:
            await refuse(receive, send, 413, self._too_large())
        elif self._in_progress >= self._limits.max_requests:
            text = f"{self._in_progress} requests are in progress already.\n  next:     ask again in a second"
            await refuse(receive, send, 503, Refusal(error="Overloaded", text=text), {"retry-after": "1"})
        else:
            self._in_progress += 1
            self._metrics.in_progress.set(self._in_progress)
            try:
                await self._app(scope, self._counted(receive), send)
            except _RefusedError as refused:
                await refuse(receive, send, refused.status, refused.refusal)
            finally:
                self._in_progress -= 1
                self._metrics.in_progress.set(self._in_progress)

    def _counted(self, receive: Receive) -> Receive:
        num_bytes = 0
        deadline = asyncio.get_running_loop().time() + _BODY_S

        async def receive_counted() -> Message:
            nonlocal num_bytes
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError as error:
                text = f"The body had not arrived after {_BODY_S:g} s."
                raise _RefusedError(408, Refusal(error="BodyTooSlow", text=text)) from error
            num_bytes += len(message.get("body", b""))
            if num_bytes > self._limits.max_body_bytes:
                raise _RefusedError(413, self._too_large())
            return message

        return receive_counted

    def _too_large(self) -> Refusal:
        text = (
            f"The body is larger than {self._limits.max_body_mb:g} MB.\n"
            "  next:     ask for fewer tiles at once, or send .npz instead of JSON"
        )
        return Refusal(error="BodyTooLarge", text=text)


def _stated_length(scope: Any) -> int:
    length = dict(scope["headers"]).get(b"content-length", b"0")
    return int(length) if length.isdigit() else 0
