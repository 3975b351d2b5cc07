"""One question to a server, answered within seconds or not at all."""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

_CONNECT_S, _ANSWER_S = 3.0, 5.0


class NoAnswerError(Exception):
    """Nobody listens, the name is not known, or it takes too long; the text says which."""


@dataclass(frozen=True)
class Server:
    """Where a server is, and who asks.

    Attributes:
        url: without user and password.
        headers: sent along, a token for instance.
        user: user and password, where it wants them.
    """

    url: str
    headers: dict[str, str]
    user: tuple[str, str] | None

    def get(self, path: str) -> "Answer":
        """Ask for a path below the address.

        Raises:
            NoAnswerError: there is no answer.
        """
        import requests

        try:
            found = requests.get(self.url + path, headers=self.headers, auth=self.user, timeout=(_CONNECT_S, _ANSWER_S))
        except requests.RequestException as error:
            raise NoAnswerError(_reason(error)) from error
        return Answer(found.status_code, found.text)


@dataclass(frozen=True)
class Answer:
    """Status and body."""

    status: int
    text: str

    @property
    def is_refusal(self) -> bool:
        """Whether it does not know who asks, or not as somebody who may."""
        return self.status in {401, 403}

    def json(self) -> Any:
        """The body's value; None where it is no JSON: something else answers at this address."""
        import json

        try:
            return json.loads(self.text)
        except ValueError:
            return None


def server_at(uri: str, user: tuple[str, str] | None = None, token: str = "") -> Server:
    """The server of an address that may hold user and password."""
    split = urlsplit(uri)
    if split.username is not None:
        user = (unquote(split.username), unquote(split.password or ""))
    url = urlunsplit(split._replace(netloc=split.netloc.rpartition("@")[2])).rstrip("/")
    return Server(url, {"Authorization": f"Bearer {token}"} if token else {}, user)


def _reason(error: Exception) -> str:
    """The system's words at the end of a chain of exceptions: Connection refused."""
    text = str(error)
    if "timed out" in text:
        return f"no answer within {_ANSWER_S:g} s"
    named = re.search(r"\[Errno -?\d+\] ([^'\")(]+)", text)
    return named[1].strip() if named else type(error).__name__
