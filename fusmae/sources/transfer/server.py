"""One address of a file, over HTTP or FTP: what its server states about the file, and its bytes from any position."""

# FTP is unsafe for secrets. Here it transfers public data, verified by a checksum: SEN12MS has no other server.
import ftplib  # nosec B402
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from urllib.parse import unquote, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

CHUNK_BYTES = 2**20
BUSY_TRIES = 8
BACKOFF_S = 1.0
LONGEST_WAIT_S = 120
_BUSY = (408, 429, 500, 502, 503, 504)
_HTTP_TIMEOUT_S = (30, 60)
_FTP_TIMEOUT_S = 60


class RefusedError(Exception):
    """This address can't deliver the file; another address may."""


class ChangedError(RefusedError):
    """The file at this address has changed."""


class DroppedError(Exception):
    """A transfer broke off or did not begin; it may be resumed from the same address."""


@dataclass(frozen=True)
class RemoteOffer:
    """What a server states about a file before the transfer."""

    size: int | None  # size in bytes; None where the server doesn't state it
    is_ranged: bool  # whether the server delivers parts of the file too
    edition: str  # text that changes when the file does; empty where the server states none


class HttpServer:
    """An http or https address, read in ranges where the server supports them, otherwise in one stream.

    Several threads may read from it. Its methods raise `RefusedError`, `ChangedError` where the file differs from the
    offer, and `DroppedError`.
    """

    def __init__(self, address: str, num_connections: int) -> None:
        self._address = address
        self._session = requests.Session()
        # Requests to a busy server are repeated here, after the time that it states; the caller resumes broken
        # transfers.
        retry = Retry(
            total=BUSY_TRIES,
            connect=0,
            read=0,
            other=0,
            status_forcelist=_BUSY,
            backoff_factor=BACKOFF_S,
            backoff_max=LONGEST_WAIT_S,
            retry_after_max=LONGEST_WAIT_S,
            raise_on_status=False,
        )
        for protocol in ("http://", "https://"):
            self._session.mount(protocol, HTTPAdapter(max_retries=retry, pool_maxsize=num_connections))

    def offer(self) -> RemoteOffer:
        """Request a range of one byte, because some servers refuse HEAD."""
        with self._answer("bytes=0-0") as response:
            size, is_part = _size(response), response.status_code == requests.codes.partial_content
            return RemoteOffer(size, is_part and size is not None, _edition(response))

    def read(self, offer: RemoteOffer, start: int, stop: int | None) -> Iterator[bytes]:
        """Yield the bytes from `start` on, up to `stop` (exclusive), or to the end where that is None."""
        wanted = f"bytes={start}-{'' if stop is None else stop - 1}" if offer.is_ranged else None
        with self._answer(wanted) as response:
            size, edition = _size(response), _edition(response)
            if None not in (size, offer.size) and size != offer.size:
                raise ChangedError(f"the file has {size} bytes now, it had {offer.size}")
            if edition and offer.edition and edition != offer.edition:
                raise ChangedError(f"the file changed during the transfer: it is {edition} now, it was {offer.edition}")
            # read1, because read would lose the bytes since its last whole chunk when the connection breaks.
            receive = partial(response.raw.read1, CHUNK_BYTES, decode_content=False)
            yield from _between(start, stop, receive, _first_byte(response, start))

    @contextmanager
    def _answer(self, wanted_range: str | None) -> Iterator[requests.Response]:
        headers = {"Accept-Encoding": "identity"} | ({"Range": wanted_range} if wanted_range else {})
        try:
            with self._session.get(self._address, headers=headers, stream=True, timeout=_HTTP_TIMEOUT_S) as response:
                if response.status_code not in (requests.codes.ok, requests.codes.partial_content):
                    raise RefusedError(f"{response.status_code} {response.reason}")
                yield response
        except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
            raise DroppedError(f"{type(error).__name__}: {error}") from error
        except requests.RequestException as error:  # about the address itself
            raise RefusedError(str(error)) from error
        except OSError as error:
            raise DroppedError(f"{type(error).__name__}: {error}") from error


def _size(response: requests.Response) -> int | None:
    if response.status_code == requests.codes.partial_content:
        total = response.headers.get("Content-Range", "").rpartition("/")[2]
    else:
        total = response.headers.get("Content-Length", "")
    return int(total) if total.isdecimal() else None


def _edition(response: requests.Response) -> str:
    return response.headers.get("ETag") or response.headers.get("Last-Modified") or ""


def _first_byte(response: requests.Response, start: int) -> int:
    if response.status_code == requests.codes.ok:
        return 0
    content_range = response.headers.get("Content-Range", "")
    first = re.match(r"bytes (\d+)-", content_range)
    if first is None or int(first[1]) != start:
        raise RefusedError(f"asked for the bytes from {start} on, the answer is {content_range or 'unnamed'!r}")
    return start


class FtpServer:
    """An ftp address, read from any byte on; each read has its own login, because a session transfers one file.

    For its methods see `HttpServer`.
    """

    def __init__(self, address: str) -> None:
        split = urlsplit(address)
        self._host, self._port = split.hostname or "", split.port or ftplib.FTP_PORT
        self._user, self._password = unquote(split.username or "anonymous"), unquote(split.password or "")
        self._path = unquote(split.path)

    def offer(self) -> RemoteOffer:
        """Request the size, and whether the server knows the command REST."""
        with self._session() as ftp:
            size, is_ranged = self._size(ftp), False
            if size is not None:
                with suppress(ftplib.error_perm):
                    is_ranged = bool(ftp.sendcmd("REST 1"))
            return RemoteOffer(size, is_ranged, self._edition(ftp))

    def read(self, offer: RemoteOffer, start: int, stop: int | None) -> Iterator[bytes]:
        """Yield the bytes from `start` on, up to `stop` (exclusive), or to the end where that is None."""
        first = start if offer.is_ranged else 0
        with self._session() as ftp:
            if self._edition(ftp) != offer.edition:
                raise ChangedError("the file changed during the transfer")
            with ftp.transfercmd(f"RETR {self._path}", rest=first or None) as data:
                yield from _between(start, stop, partial(data.recv, CHUNK_BYTES), first)
                # FTP has no end of a range: a transfer that is not read to its end is closed without the last answer.
                if stop is None:
                    ftp.voidresp()

    @contextmanager
    def _session(self) -> Iterator[ftplib.FTP]:
        ftp = ftplib.FTP(timeout=_FTP_TIMEOUT_S)  # noqa: S321 - see the import  # nosec B321
        try:
            ftp.connect(self._host, self._port)
            try:
                ftp.login(self._user, self._password)
            except ftplib.error_perm as error:
                # Many servers give this answer when they are busy, so it is tried again; with a wrong password the
                # limit on tries ends it.
                raise DroppedError(str(error)) from error
            ftp.voidcmd("TYPE I")
            yield ftp
        except (ftplib.error_perm, ValueError) as error:  # a ValueError is a line break in the path
            raise RefusedError(str(error)) from error
        except (ftplib.Error, OSError, EOFError) as error:
            raise DroppedError(f"{type(error).__name__}: {error}") from error
        finally:
            ftp.close()

    def _size(self, ftp: ftplib.FTP) -> int | None:
        try:
            return ftp.size(self._path)
        except ftplib.error_perm as error:
            # Codes 55x concern the file. Others concern the command SIZE, which a server may lack and still deliver.
            if str(error).startswith("55"):
                raise
            return None

    def _edition(self, ftp: ftplib.FTP) -> str:
        with suppress(ftplib.error_perm):
            return ftp.sendcmd(f"MDTM {self._path}")
        return ""


def _between(start: int, stop: int | None, receive: Callable[[], bytes], position: int) -> Iterator[bytes]:
    """Yield the bytes from `start` to `stop` of chunks of which the first begins at `position`, or before `start`."""
    while (stop is None or position < stop) and (chunk := receive()):
        end = position + len(chunk) if stop is None else min(position + len(chunk), stop)
        if end > start:
            yield chunk[max(start - position, 0) : end - position]
        position += len(chunk)
    if stop is not None and position < stop:
        raise DroppedError(f"the connection ended at byte {position} instead of {stop}")


Server = HttpServer | FtpServer


def reach(address: str, num_connections: int) -> Server:
    """Return the server for an address's protocol; nothing is sent yet.

    Raises:
        RefusedError: the address has no known protocol.
    """
    try:
        scheme = urlsplit(address).scheme.lower()
    except ValueError as error:
        raise RefusedError(f"not an address: {error}") from error
    match scheme:
        case "http" | "https":
            return HttpServer(address, num_connections)
        case "ftp":
            return FtpServer(address)
    raise RefusedError("not an http, https or ftp address")
