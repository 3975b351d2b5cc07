"""One HTTP request to a server, with a limit of seconds for the answer."""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

_CONNECT_S, _ANSWER_S = 3.0, 5.0


class NoAnswerError(Exception):
    """No server listens, its name is unknown, or it takes too long; the text states which."""


@dataclass(frozen=True)
class ServerAddress:
    """A server's address, with the credentials for it.

    Attributes:
        url: address without user and password.
        headers: HTTP headers of each request, for example with a token.
        user: user and password; None where none are given.
    """

    url: str
    headers: dict[str, str]
    user: tuple[str, str] | None

    def get(self, path: str) -> "Answer":
        """Request a path below the address.

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
    """A server's answer.

    Attributes:
        status: HTTP status code.
        text: body as text.
    """

    status: int
    text: str

    @property
    def is_refusal(self) -> bool:
        """Whether the server refused the credentials, or the user lacks the permission."""
        return self.status in {401, 403}

    def json(self) -> Any:
        """The body parsed as JSON; None where it is not JSON, as from another program at this address."""
        import json

        try:
            return json.loads(self.text)
        except ValueError:
            return None


def server_at(uri: str, user: tuple[str, str] | None = None, token: str = "") -> ServerAddress:
    """The server at an address; user and password in the address replace those given."""
    split = urlsplit(uri)
    if split.username is not None:
        user = (unquote(split.username), unquote(split.password or ""))
    url = urlunsplit(split._replace(netloc=split.netloc.rpartition("@")[2])).rstrip("/")
    return ServerAddress(url, {"Authorization": f"Bearer {token}"} if token else {}, user)


def _reason(error: Exception) -> str:
    """The system's message at the end of a chain of exceptions, such as "Connection refused"."""
    text = str(error)
    if "timed out" in text:
        return f"no answer within {_ANSWER_S:g} s"
    named = re.search(r"\[Errno -?\d+\] ([^'\")(]+)", text)
    return named[1].strip() if named else type(error).__name__
