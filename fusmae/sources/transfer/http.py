"""Files over HTTP: in ranges where the server supports them, otherwise in one stream."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from fusmae.sources.transfer.server import CHUNK_BYTES, ChangedError, DroppedError, RefusedError, RemoteOffer

BUSY_TRIES = 8
BACKOFF_S = 1.0
LONGEST_WAIT_S = 120
_TIMEOUT_S = (30, 60)
_BUSY = (408, 429, 500, 502, 503, 504)


class HttpServer:
    """One http or https address.

    Args:
        address: full URL.
        num_connections: number of threads that read at a time.
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
        adapter = HTTPAdapter(max_retries=retry, pool_maxsize=num_connections)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def offer(self) -> RemoteOffer:
        """See `Server`; requests a range of one byte, because some servers refuse HEAD."""
        with self._answer("bytes=0-0") as response:
            is_ranged = response.status_code == requests.codes.partial_content
            return RemoteOffer(_size(response), is_ranged and _size(response) is not None, _edition(response))

    def read(self, offer: RemoteOffer, start: int, stop: int | None) -> Iterator[bytes]:
        """See `Server`; if a server answers with the whole file, the bytes outside of the range are dropped."""
        wanted = f"bytes={start}-{'' if stop is None else stop - 1}" if offer.is_ranged else None
        with self._answer(wanted) as response:
            _check_same_file(offer, response)
            position = _first_byte(response, start)
            # read1, because read would lose the bytes since its last whole chunk when the connection breaks.
            while chunk := response.raw.read1(CHUNK_BYTES, decode_content=False):
                end = position + len(chunk) if stop is None else min(position + len(chunk), stop)
                if end > start:
                    yield chunk[max(start - position, 0) : end - position]
                position += len(chunk)
                if stop is not None and position >= stop:
                    return
        if stop is not None:
            raise DroppedError(f"the connection ended at byte {position} instead of {stop}")

    @contextmanager
    def _answer(self, wanted_range: str | None) -> Iterator[requests.Response]:
        headers = {"Accept-Encoding": "identity"}
        if wanted_range is not None:
            headers["Range"] = wanted_range
        try:
            with self._session.get(self._address, headers=headers, stream=True, timeout=_TIMEOUT_S) as response:
                if response.status_code not in (requests.codes.ok, requests.codes.partial_content):
                    raise RefusedError(f"{response.status_code} {response.reason}")
                yield response
        except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError, OSError) as error:
            # Most errors of requests are OSErrors too; those about the address itself are permanent.
            if isinstance(error, requests.RequestException) and not isinstance(
                error, requests.ConnectionError | requests.Timeout
            ):
                raise RefusedError(str(error)) from error
            raise DroppedError(f"{type(error).__name__}: {error}") from error


def _size(response: requests.Response) -> int | None:
    if response.status_code == requests.codes.partial_content:
        total = response.headers.get("Content-Range", "").rpartition("/")[2]
    else:
        total = response.headers.get("Content-Length", "")
    return int(total) if total.isdecimal() else None


def _edition(response: requests.Response) -> str:
    return response.headers.get("ETag") or response.headers.get("Last-Modified") or ""


def _check_same_file(offer: RemoteOffer, response: requests.Response) -> None:
    size, edition = _size(response), _edition(response)
    if None not in (size, offer.size) and size != offer.size:
        raise ChangedError(f"the file has {size} bytes now, it had {offer.size}")
    if edition and offer.edition and edition != offer.edition:
        raise ChangedError(f"the file changed during the transfer: it is {edition} now, it was {offer.edition}")


def _first_byte(response: requests.Response, start: int) -> int:
    if response.status_code == requests.codes.ok:
        return 0
    content_range = response.headers.get("Content-Range", "")
    first = re.match(r"bytes (\d+)-", content_range)
    if first is None or int(first[1]) != start:
        raise RefusedError(f"asked for the bytes from {start} on, the answer is {content_range or 'unnamed'!r}")
    return start
