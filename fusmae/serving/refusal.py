"""Answers without a result: one JSON form for all of them, and a way to refuse a body that nobody reads."""

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
        error: its kind: InputError, Overloaded, BodyTooLarge, …
        text: what was wrong, what was got, what was expected, what to do next.
    """

    error: str = Field(examples=["InputError"])
    text: str = Field(examples=["Tile 0, band VV looks like linear power, not dB.\n  got: …\n  expected: …\n  next: …"])


async def refuse(
    receive: Receive, send: Send, status: int, refusal: Refusal, headers: Mapping[str, str] | None = None
) -> None:
    """Answer before the body is there, then drop what still comes.

    A connection that is closed while its client still sends is reset, and the client never sees the answer.

    Args:
        receive: of the request.
        send: of the request.
        status: HTTP status.
        refusal: the answer.
        headers: further ones.
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
