"""What a file server can do, independent of its protocol."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

CHUNK_BYTES = 2**20


class RefusedError(Exception):
    """This address can't deliver the file; another address may."""


class ChangedError(RefusedError):
    """The file at this address has changed."""


class DroppedError(Exception):
    """A transfer broke off or did not begin; it may be resumed from the same address."""


@dataclass(frozen=True)
class RemoteOffer:
    """What a server states about a file before the transfer.

    Attributes:
        size: size in bytes; None where the server doesn't state it.
        is_ranged: whether the server delivers parts of the file too.
        edition: text that changes when the file does; empty where the server states none.
    """

    size: int | None
    is_ranged: bool
    edition: str


class Server(Protocol):
    """One address of one file; several threads may read from it."""

    def offer(self) -> RemoteOffer:
        """Request the file's size and other properties.

        Raises:
            RefusedError: this address can't deliver the file.
            DroppedError: the server did not answer.
        """
        ...

    def read(self, offer: RemoteOffer, start: int, stop: int | None) -> Iterator[bytes]:
        """Yield the bytes from `start` on, up to `stop` (exclusive) or to the end.

        Raises:
            RefusedError: this address can't deliver the file, or (`ChangedError`) the file differs from the offer.
            DroppedError: the transfer broke off before `stop`.
        """
        ...


def reach(address: str, num_connections: int) -> Server:
    """Return the server for an address's protocol; nothing is sent yet.

    Raises:
        RefusedError: the address has no known protocol.
    """
    # The protocols are imported where they are used: a run whose data are present needs none of them.
    try:
        scheme = urlsplit(address).scheme.lower()
    except ValueError as error:
        raise RefusedError(f"not an address: {error}") from error
    if scheme in ("http", "https"):
        from fusmae.sources.transfer.http import HttpServer

        return HttpServer(address, num_connections)
    if scheme == "ftp":
        from fusmae.sources.transfer.ftp import FtpServer

        return FtpServer(address)
    raise RefusedError("not an http, https or ftp address")
