"""Limits of the service: how much it does at once, and the middleware that refuses more."""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fusmae.serving.answers import Refusal
from fusmae.serving.metrics import Metrics

_log = logging.getLogger("fusmae.serving")

_BODY_S = 60.0
"""Longest time for a request's body to arrive, in seconds: a slow client occupies a place that others need."""
_ANSWER_S = 60.0
"""Longest time in seconds for which a client may take to receive an answer: it occupies a place meanwhile."""
_PIECE_BYTES = 2**18
"""Largest number of an answer's bytes that are handed to the network at once; the rest waits until they have left."""
_LINGER_S = 5.0
"""Longest time in seconds for which the rest of a refused body is read."""


@dataclass(frozen=True)
class Limits:
    """Bounds of one service; memory is at most about `max_requests` times `max_body_mb` and `max_answer_mb`."""

    max_batch: int  # maximum number of tiles in one request
    max_requests: int  # maximum number of requests in progress; further ones get status 503
    max_body_mb: float  # maximum size of a request's body in MB (10^6 bytes)
    max_answer_mb: float  # maximum size in MB of an answer, and of the numbers that the model gives for it
    poll_s: float  # seconds between two queries of the alias
    stop_s: int  # seconds that requests have to finish when the service stops


class _RefusedError(Exception):
    """Raised before or while the body is read, and answered in `Admission.__call__`."""

    def __init__(self, status: int, error: str, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(error)
        content = Refusal(error=error, text=text).model_dump()
        self.answer = JSONResponse(content, status, {"connection": "close", **(headers or {})})


class Admission:
    """ASGI middleware before everything that reads a body.

    If too many requests are in progress, a request is refused with 503 before its body is read. A body that is too
    large is refused with 413, by its stated length before it is read, or else as soon as it becomes too large. A body
    that arrives too slowly is refused with 408.
    """

    def __init__(self, app: ASGIApp, limits: Limits, metrics: Metrics) -> None:
        self._app = app
        self._limits = limits
        self._places = asyncio.Semaphore(limits.max_requests)
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Admit a request or refuse it; every request other than POST is admitted."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        try:
            self._require_room(scope)
            async with self._places:
                with self._metrics.in_progress.track_inprogress():
                    await self._app(scope, self._counted(receive), _in_pieces(send))
        except _RefusedError as refused:
            await _refuse(receive, send, refused.answer)
        except _TooSlowError:
            # The server closes the connection: the answer is not complete.
            _log.warning("an answer had not been received after %g s", _ANSWER_S)

    def _require_room(self, scope: Scope) -> None:
        stated = dict(scope["headers"]).get(b"content-length", b"0")
        self._require_small(int(stated) if stated.isdigit() else 0)
        if self._places.locked():
            text = f"{self._limits.max_requests} requests are in progress already.\n  next:     ask again in a second"
            raise _RefusedError(503, "Overloaded", text, {"retry-after": "1"})

    def _counted(self, receive: Receive) -> Receive:
        num_bytes = 0
        deadline = asyncio.get_running_loop().time() + _BODY_S

        async def receive_counted() -> Message:
            nonlocal num_bytes
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError as error:
                raise _RefusedError(408, "BodyTooSlow", f"The body had not arrived after {_BODY_S:g} s.") from error
            num_bytes += len(message.get("body", b""))
            self._require_small(num_bytes)
            return message

        return receive_counted

    def _require_small(self, num_bytes: int) -> None:
        if num_bytes > int(self._limits.max_body_mb * 1e6):
            text = (
                f"The body is larger than {self._limits.max_body_mb:g} MB.\n"
                "  next:     ask for fewer tiles at once, or send .npz instead of JSON"
            )
            raise _RefusedError(413, "BodyTooLarge", text)


class _TooSlowError(Exception):
    """A client has not received its answer in time."""


def _in_pieces(send: Send) -> Send:
    """Send answers piece by piece, so that a client that does not read them keeps its place, for some time."""

    async def send_in_pieces(message: Message) -> None:
        body = message.get("body", b"")
        if len(body) <= _PIECE_BYTES:
            await send(message)
            return
        try:
            async with asyncio.timeout(_ANSWER_S):
                for start in range(0, len(body), _PIECE_BYTES):
                    stop = start + _PIECE_BYTES
                    is_last = stop >= len(body) and not message.get("more_body", False)
                    await send({"type": message["type"], "body": body[start:stop], "more_body": not is_last})
        except TimeoutError as error:
            raise _TooSlowError from error

    return send_in_pieces


async def _refuse(receive: Receive, send: Send, answer: JSONResponse) -> None:
    """Answer before the body has arrived, then read and drop the rest of it.

    If a connection is closed while its client still sends, it is reset, and the client never gets the answer.
    """
    await send({"type": "http.response.start", "status": answer.status_code, "headers": answer.raw_headers})
    await send({"type": "http.response.body", "body": answer.body, "more_body": True})
    with suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_S):
            while (message := await receive())["type"] == "http.request" and message.get("more_body"):
                pass
    await send({"type": "http.response.body", "body": b""})
