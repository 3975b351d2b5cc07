"""What a server of files can do, whatever protocol it speaks."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

CHUNK_BYTES = 2**20


class RefusedError(Exception):
    """This address can't give the file; another one may."""


class ChangedError(RefusedError):
    """The file at this address is another one than before."""


class DroppedError(Exception):
    """A transfer broke off or did not begin; the same address may still go on."""


@dataclass(frozen=True)
class Offer:
    """What a server says of a file before it is transferred.

    Attributes:
        size: in bytes; None where the server doesn't say.
        is_ranged: it gives parts of the file too.
        edition: changes when the file does; empty where the server says nothing of the kind.
    """

    size: int | None
    is_ranged: bool
    edition: str


class Server(Protocol):
    """One address of one file; several threads may read from it."""

    def offer(self) -> Offer:
        """Ask for the file's size and more.

        Raises:
            RefusedError: the file can't be had here.
            DroppedError: no answer came.
        """
        ...

    def read(self, offer: Offer, start: int, stop: int | None) -> Iterator[bytes]:
        """Give the bytes from `start` on, up to `stop` or to the end.

        Raises:
            RefusedError: the file can't be had here, or (`ChangedError`) is not the one that was offered.
            DroppedError: the transfer broke off before `stop`.
        """
        ...


def reach(address: str, num_connections: int) -> Server:
    """Find who speaks an address's protocol; nothing is sent yet.

    Raises:
        RefusedError: it is no address of a known protocol.
    """
    # The protocols are imported where they are used: a run that has its data needs none of them.
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
