"""Refusals: their JSON form, and a way to send one before the request's body is read."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any

from pydantic import BaseModel, Field

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_LINGER_S = 5.0


class Refusal(BaseModel):
    """Why there is no result.

    Attributes:
        error: kind of the error: InputError, Overloaded, BodyTooLarge, …
        text: message on what was wrong, what was got, what was expected and what to do next.
    """

    error: str = Field(examples=["InputError"])
    text: str = Field(examples=["Tile 0, band VV looks like linear power, not dB.\n  got: …\n  expected: …\n  next: …"])


async def refuse(
    receive: Receive, send: Send, status: int, refusal: Refusal, headers: Mapping[str, str] | None = None
) -> None:
    """Answer before the body has arrived, then read and drop the rest of it.

    If a connection is closed while its client still sends, it is reset, and the client never gets the answer.

    Args:
        receive: receive function of the request.
        send: send function of the request.
        status: HTTP status.
        refusal: the answer.
        headers: further headers.
    """
    body = refusal.model_dump_json().encode()
    named = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "connection": "close",
        **(headers or {}),
    }
    lines = [(name.encode(), value.encode()) for name, value in named.items()]
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    with suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_S):
            while (message := await receive())["type"] == "http.request" and message.get("more_body"):
                pass
    await send({"type": "http.response.body", "body": b""})
